"""Tokens to trees, by precedence climbing."""

import math
from functools import lru_cache

from recsys_mtl.fusion.expression.tokens import ExpressionError, Token, tokens, unexpected
from recsys_mtl.fusion.expression.tree import (
    FUNCTIONS,
    SIGN,
    STRENGTH,
    Binary,
    Call,
    Function,
    Negative,
    Node,
    Number,
    Objective,
    Operator,
)

LONGEST, MOST_PARTS, DEEPEST = 500, 200, 40
"""Limits of an expression: characters, parts (names, numbers, operations) and parts that stand inside each other."""
KEPT = 512
"""Parsed expressions that are kept: services see the same few again and again."""


@lru_cache(maxsize=KEPT)
def parse(text: str) -> Node:
    """Read an expression.

    Raises:
        ExpressionError: it is none, or larger than allowed; with the position.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"{len(text)} characters are too many; up to {LONGEST} are allowed")
    return Parser(text).parse()


class Parser:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens(text)
        self.next = next(self.tokens)
        self.parts = self.depth = 0

    def parse(self) -> Node:
        """Read all of it."""
        node = self._operation(least=1)
        if self.next.kind != "end":
            raise self._expected("an operator or the end")
        return node

    def _operation(self, *, least: int) -> Node:
        """Read operands for as long as the operators between them bind at least this strongly."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise unexpected(self.next.position, f"more than {DEEPEST} parts inside each other")
        left = self._operand()
        while (operator := self._operator(least)) is not None:
            self._advance()
            strength = STRENGTH[operator]
            right = self._operation(least=strength if operator == "^" else strength + 1)  # a^b^c is a^(b^c)
            left = self._counted(Binary(operator, left, right))
        self.depth -= 1
        return left

    def _operator(self, least: int) -> Operator | None:
        return next((sign for sign in STRENGTH if sign == self.next.text and STRENGTH[sign] >= least), None)

    def _operand(self) -> Node:
        token = self.next
        if token.text == "-":
            self._advance()
            return self._counted(Negative(self._operation(least=SIGN)))
        if token.text == "(":
            self._advance()
            node = self._operation(least=1)
            self._take(")", "an operator or ')'")
            return node
        if token.kind not in {"number", "name"}:
            raise self._expected("a task, a number, a function or '('")
        self._advance()
        return self._number(token) if token.kind == "number" else self._named(token)

    def _number(self, token: Token) -> Node:
        value = float(token.text)
        if not math.isfinite(value):
            raise unexpected(token.position, "the number is too large")
        return self._counted(Number(value))

    def _named(self, token: Token) -> Node:
        if self.next.text != "(":
            return self._counted(Objective(token.text, token.position))
        function = next((name for name in FUNCTIONS if name == token.text), None)
        if function is None:
            raise unexpected(token.position, f"there is no function {token}; there are {', '.join(FUNCTIONS)}")
        return self._counted(Call(function, self._arguments(function, token)))

    def _arguments(self, function: Function, token: Token) -> tuple[Node, ...]:
        self._advance()
        arguments = [self._operation(least=1)]
        while self.next.text == ",":
            self._advance()
            arguments.append(self._operation(least=1))
        self._take(")", "an operator, ',' or ')'")
        if (function in {"min", "max"}) != (len(arguments) > 1):
            wanted = "two arguments or more" if function in {"min", "max"} else "one argument"
            raise unexpected(token.position, f"{function} takes {wanted}, not {len(arguments)}")
        return tuple(arguments)

    def _counted(self, node: Node) -> Node:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise ExpressionError(f"more than {MOST_PARTS} names, numbers and operations")
        return node

    def _take(self, sign: str, what: str) -> None:
        if self.next.text != sign:
            raise self._expected(what)
        self._advance()

    def _advance(self) -> None:
        self.next = next(self.tokens)

    def _expected(self, what: str) -> ExpressionError:
        return unexpected(self.next.position, f"expected {what}, found {self.next}")
