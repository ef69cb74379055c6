"""Several pieces of work that take turns in one process, so that whatever else the machine does meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping

Work = Callable[[], object]


def in_turn(works: Mapping[str, Work], *, turns: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds that a call of each takes, by turn; in each turn a piece of work is called for some time."""
    for work in works.values():  # what is done once only
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            found[name].append(seconds_of(work, seconds))
    return found


def seconds_of(work: Work, seconds: float) -> float:
    """Return the median time of a call over so many seconds, or of one call where that takes longer."""
    times: list[float] = []
    while sum(times) < seconds or not times:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
