"""Expressions as trees, and back as text."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

Operator = Literal["+", "-", "*", "/", "^"]
Function = Literal["log", "exp", "min", "max"]
FUNCTIONS: tuple[Function, ...] = get_args(Function)

STRENGTH: dict[Operator, int] = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}
"""How strongly operators bind; a minus sign stands between, so that -a^2 is -(a^2) and -a*b is (-a)*b."""
SIGN, ATOM = 3, 5


@dataclass(frozen=True, slots=True)
class Number:
    """A constant, not below zero."""

    value: float


@dataclass(frozen=True, slots=True)
class Objective:
    """The score of a task."""

    name: str
    position: int = field(default=1, compare=False)
    """Where in the text it stands, from 1."""


@dataclass(frozen=True, slots=True)
class Negative:
    """A minus sign and what it is before."""

    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands and what is between them."""

    operator: Operator
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    """A function of one argument, or the smallest or largest of several."""

    function: Function
    arguments: tuple["Node", ...]


Node = Number | Objective | Negative | Binary | Call


def children(node: Node) -> tuple[Node, ...]:
    """Return what a node is made of."""
    match node:
        case Negative(operand):
            return (operand,)
        case Binary(_, left, right):
            return left, right
        case Call(_, arguments):
            return arguments
        case _:
            return ()


def objectives(node: Node) -> Iterator[Objective]:
    """Yield every mention of a task."""
    if isinstance(node, Objective):
        yield node
    for child in children(node):
        yield from objectives(child)


def text(node: Node, least: int = 0) -> str:
    """Write a tree down, with parentheses where it binds less strongly than ``least``."""
    strength, written = _written(node)
    return f"({written})" if strength < least else written


def _written(node: Node) -> tuple[int, str]:
    match node:
        case Number(value):
            return ATOM, repr(value)
        case Objective(name):
            return ATOM, name
        case Call(function, arguments):
            return ATOM, f"{function}({', '.join(map(text, arguments))})"
        case Negative(operand):
            return SIGN, f"-{text(operand, SIGN)}"
        case Binary(operator, left, right):
            strength = STRENGTH[operator]
            before, after = (ATOM, strength) if operator == "^" else (strength, strength + 1)
            return strength, f"{text(left, before)} {operator} {text(right, after)}"
