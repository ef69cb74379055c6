"""What several seeds tell: means with their errors, and differences of equal seeds."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy import stats

BySeed = dict[int, float]


@dataclass(frozen=True)
class Spread:
    """Some values of the same thing."""

    mean: float
    deviation: float
    """Sample standard deviation; NaN of fewer than two."""
    count: int
    median: float
    """What is typical where a few runs went astray."""

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Summarise values."""
        known = list(values)
        if not known:
            return cls(math.nan, math.nan, 0, math.nan)
        deviation = statistics.stdev(known) if len(known) > 1 else math.nan
        return cls(statistics.fmean(known), deviation, len(known), statistics.median(known))

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.deviation / math.sqrt(self.count) if self.count else math.nan

    @property
    def in_errors(self) -> float:
        """The mean in standard errors."""
        return self.mean / self.error if self.error > 0 else math.nan


def paired(mine: Mapping[int, float], other: Mapping[int, float]) -> Spread:
    """Summarise the differences of equal seeds."""
    return Spread.of(mine[seed] - other[seed] for seed in sorted(mine.keys() & other.keys()))


def needed_errors(count: int) -> float:
    """How many standard errors a mean of ``count`` values must be from 0 to be so by chance in 5 % of cases at most."""
    return float(stats.t.ppf(0.975, count - 1)) if count > 1 else math.nan
