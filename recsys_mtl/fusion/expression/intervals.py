"""Intervals of numbers, and what arithmetic makes of them.

Bounds are rounded to the nearest double, but never across 0 or to infinity: signs are certain.
"""

import math
import sys
from dataclasses import dataclass

HIGHEST, TINIEST = sys.float_info.max, math.ulp(0.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers from ``low`` to ``high``; a bound that is not known is infinite."""

    low: float
    high: float

    def __add__(self, other: "Interval") -> "Interval":
        """Return where sums lie."""
        return interval(self.low + other.low, self.high + other.high)

    def __neg__(self) -> "Interval":
        """Return where the negatives lie."""
        return Interval(-self.high, -self.low)

    def __sub__(self, other: "Interval") -> "Interval":
        """Return where differences lie."""
        return self + -other

    def __mul__(self, other: "Interval") -> "Interval":
        """Return where products lie."""
        return hull(*(_product(a, b) for a in (self.low, self.high) for b in (other.low, other.high)))

    @property
    def reciprocal(self) -> "Interval":
        """Where 1 / x lies, for an interval without 0."""
        return interval(1 / self.high, 1 / self.low)

    def log(self) -> "Interval":
        """Return where logarithms lie, for an interval from 0 on."""
        return Interval(math.log(self.low) if self.low else -math.inf, math.log(self.high))

    def exp(self) -> "Interval":
        """Return where exponentials lie."""
        return positive(_exp(self.low), _exp(self.high))

    def power(self, exponent: float) -> "Interval":
        """Return where ``x^exponent`` lies, for an interval from 0 on."""
        ends = [_power(end, exponent) for end in (self.low, self.high)]
        return positive(min(ends), max(ends)) if self.high > 0 else interval(min(ends), max(ends))


ZERO, ONE = Interval(0, 0), Interval(1, 1)


def interval(low: float, high: float) -> Interval:
    """Make an interval; a bound that came out as no number is not known, and all numbers are short of infinity."""
    low = -math.inf if math.isnan(low) else min(low, HIGHEST)
    return Interval(low, math.inf if math.isnan(high) else max(high, -HIGHEST))


def positive(low: float, high: float) -> Interval:
    """Make an interval of numbers above 0, of which some may have come out as 0."""
    return interval(low, max(high, TINIEST))


def hull(*parts: Interval) -> Interval:
    """Return the smallest interval that holds them all."""
    return Interval(min(part.low for part in parts), max(part.high for part in parts))


def _product(a: float, b: float) -> Interval:
    if a == 0 or b == 0:  # an infinite bound stands for numbers without end, and 0 times those is 0
        return ZERO
    product = a * b
    if product == 0:
        return Interval(0, TINIEST) if (a > 0) == (b > 0) else Interval(-TINIEST, 0)
    return interval(product, product)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _power(base: float, exponent: float) -> float:
    if base == 0 and exponent < 0:
        return math.inf
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf
