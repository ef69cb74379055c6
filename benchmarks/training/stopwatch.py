"""Time of training steps, taken where every trainer asks for its next batch.

Peers run this, too, in an environment of their own: nothing but Python is imported.
"""

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How long a measurement takes."""

    warm_up_steps: int = 1
    warm_up_s: float = 0.5
    """Steps are not counted before both are over."""
    fewest: int = 2
    """Counted steps, however long they take."""
    seconds: float = 1.0
    """Counted time, however many steps fit into it."""


class Timed(Generic[T]):
    """Hands out batches and takes the time whenever the next one is asked for: then a step is over.

    Batches in a sequence come again and again until the measurement is long enough; those of a loader come once, at
    most.
    """

    def __init__(self, batches: Iterable[T], pace: Pace) -> None:
        self.batches, self.pace = batches, pace
        self.moments: list[float] = []
        """Begin of the first counted step, and end of every one."""

    def __iter__(self) -> Iterator[T]:
        """Yield batches for as long as the measurement takes."""
        begin = time.perf_counter()
        endless = cycle(self.batches) if isinstance(self.batches, Sequence) else self.batches
        for given, batch in enumerate(endless):
            now = time.perf_counter()
            if given >= self.pace.warm_up_steps and now - begin >= self.pace.warm_up_s:
                self.moments.append(now)
            if self._is_over():
                return
            yield batch
        self.moments.append(time.perf_counter())

    def _is_over(self) -> bool:
        steps = len(self.moments) - 1
        return steps >= self.pace.fewest and self.moments[-1] - self.moments[0] >= self.pace.seconds

    def measured(self, batch_size: int) -> dict[str, Any]:
        """Return rows per second of the counted steps.

        In memory, where all steps do the same, that is the median step's; behind a loader the mean, with every wait.

        Raises:
            ValueError: there were too few batches to count any.
        """
        steps = [end - begin for begin, end in pairwise(self.moments)]
        if not steps:
            raise ValueError(f"no step of {batch_size} rows was counted: there were too few batches")
        typical = statistics.median(steps) if isinstance(self.batches, Sequence) else statistics.fmean(steps)
        rate = batch_size / typical
        return {"batch_size": batch_size, "steps": len(steps), "seconds": sum(steps), "rows_per_s": rate}
