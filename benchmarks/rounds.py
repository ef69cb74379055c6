"""Values of the same thing, measured in several rounds."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Values of the same thing in several rounds or turns; at least one."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What is typical where a few went astray."""
        return statistics.median(self.values)

    def text(self, digits: int = 2) -> str:
        """Print the median, with the range where there is one."""
        middle, low, high = (f"{value:,.{digits}f}" for value in (self.median, min(self.values), max(self.values)))
        return middle if len(self.values) < 2 else f"{middle} ({low}–{high})"
