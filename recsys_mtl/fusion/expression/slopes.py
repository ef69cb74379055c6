"""How steeply an expression rises with each objective, wherever the objectives are: a proof that it never falls.

Interval arithmetic over derivatives. It never proves what is not so (but for rounding), and cannot prove all that is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from recsys_mtl.fusion.expression.intervals import ONE, ZERO, Interval, hull
from recsys_mtl.fusion.expression.tokens import ExpressionError
from recsys_mtl.fusion.expression.tree import Binary, Call, Function, Negative, Node, Number, Objective, Operator, text


@dataclass(frozen=True)
class Range:
    """Where a part's values lie, and where its slopes in each objective do; an objective not listed has none."""

    value: Interval
    slopes: Mapping[str, Interval]


class Survey:
    """Explores an expression part by part, each once, however often it is asked about."""

    def __init__(self, limits: Mapping[str, Interval]) -> None:
        """``limits`` says where each objective's scores lie."""
        self.limits = limits
        self.known: dict[int, Range] = {}

    def explore(self, node: Node) -> Range:
        """Find the range of a part.

        Raises:
            ExpressionError: it may be undefined: a divisor of 0, a logarithm or a power of a negative number.
        """
        if id(node) not in self.known:
            self.known[id(node)] = self._explore(node)
        return self.known[id(node)]

    def _explore(self, node: Node) -> Range:
        match node:
            case Number(value):
                return Range(Interval(value, value), {})
            case Objective(name):
                return Range(self.limits[name], {name: ONE})
            case Negative(operand):
                inner = self.explore(operand)
                return Range(-inner.value, scaled(inner, Interval(-1, -1)))
            case Binary("/", left, right):
                return self._quotient(left, right)
            case Binary(operator, left, right):
                return _operation(operator, self.explore(left), self.explore(right), node)
            case Call(function, arguments):
                return _call(function, [self.explore(argument) for argument in arguments], node)

    def _quotient(self, left: Node, right: Node) -> Range:
        """(f/g)' = (f'g - fg')/g²; where g is f + h, that is (f'h - fh')/g², which interval arithmetic sees through."""
        above, below = self.explore(left), self.explore(right)
        if below.value.low <= 0 <= below.value.high:
            raise ExpressionError(f"cannot show that {text(right)} is never 0")
        rest = below
        if isinstance(right, Binary) and right.operator == "+" and left in (right.left, right.right):
            rest = self.explore(right.right if left == right.left else right.left)
        numerators = added(scaled(above, rest.value), scaled(rest, -above.value))
        inverse = below.value.reciprocal
        return Range(above.value * inverse, {name: slope * inverse * inverse for name, slope in numerators.items()})


def scaled(part: Range, by: Interval) -> dict[str, Interval]:
    """Return a part's slopes, times a factor."""
    return {name: slope * by for name, slope in part.slopes.items()}


def added(one: Mapping[str, Interval], other: Mapping[str, Interval]) -> dict[str, Interval]:
    """Return sums of slopes."""
    return {name: one.get(name, ZERO) + other.get(name, ZERO) for name in (*one, *other)}


def _operation(operator: Operator, left: Range, right: Range, node: Node) -> Range:
    match operator:
        case "+":
            return Range(left.value + right.value, added(left.slopes, right.slopes))
        case "-":
            return Range(left.value - right.value, added(left.slopes, scaled(right, Interval(-1, -1))))
        case "*":
            return Range(left.value * right.value, added(scaled(left, right.value), scaled(right, left.value)))
        case _:
            return _power(left, right, node)


def _power(base: Range, exponent: Range, node: Node) -> Range:
    constant = exponent.value.low if exponent.value.low == exponent.value.high else None
    # A base that reaches 0 has a power everywhere for a fixed exponent from 0 on only.
    if base.value.low < 0 or (base.value.low == 0 and (constant is None or constant < 0)):
        raise ExpressionError(f"cannot show that the base of {text(node)} is above 0")
    if constant is None:
        logs = base.value.log()
        value = (exponent.value * logs).exp()
        slopes = added(scaled(exponent, logs), scaled(base, exponent.value * base.value.reciprocal))
        return Range(value, {name: slope * value for name, slope in slopes.items()})
    if constant == 0:
        return Range(ONE, {})
    return Range(
        base.value.power(constant),
        scaled(base, Interval(constant, constant) * base.value.power(constant - 1)),
    )


def _call(function: Function, parts: list[Range], node: Node) -> Range:
    (value, *_) = values = [part.value for part in parts]
    match function:
        case "exp":
            return Range(value.exp(), scaled(parts[0], value.exp()))
        case "log":
            if value.low < 0 or value.high <= 0:
                raise ExpressionError(f"cannot show that {text(node)} is never that of a number below 0")
            return Range(value.log(), scaled(parts[0], value.power(-1)))
        case "min":
            top = min(value.high for value in values)
            bounds = Interval(min(value.low for value in values), top)
            return Range(bounds, _either([part for part in parts if part.value.low <= top]))
        case "max":
            bottom = max(value.low for value in values)
            bounds = Interval(bottom, max(value.high for value in values))
            return Range(bounds, _either([part for part in parts if part.value.high >= bottom]))


def _either(parts: list[Range]) -> dict[str, Interval]:
    """Return slopes of whichever part it is."""
    names = {name for part in parts for name in part.slopes}
    return {name: hull(*(part.slopes.get(name, ZERO) for part in parts)) for name in names}
