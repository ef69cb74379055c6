"""What the records say: figures by phase, and whether the service kept its promises."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak.records import EVENT, Killed, Phase, Record, Sample, Swap

STEADY, SWAPS, AFTER = "steady", "hot swaps", "steady again"
"""Phases that are compared."""
GROWTH = 1.15
"""Bound of the memory at the end, as a multiple of that in the steady phase: room for a second model is taken once."""
SWAP_GROWTH = 1.05
"""Bound of the memory in the last quarter of the swaps, as a multiple of that in the second one."""
SPIKE = 2.0
"""Bound of the p99 under hot swaps, as a multiple of the steady one."""
LOST, REFUSED = "lost", "refused event"
"""Fates of requests on connections of a killed worker, and of events while there is no store."""


@dataclass(frozen=True)
class Traffic:
    """What clients saw in a phase."""

    phase: str
    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    failures: Mapping[str, int]
    """By kind, without the following ones."""
    lost: int
    """On connections of a worker that was killed."""
    refused_events: int
    """While the feature store could not be reached."""


@dataclass(frozen=True)
class Memory:
    """The service's processes in a phase: medians of its samples."""

    phase: str
    pss: float
    rss: float
    files: float
    threads: float
    slope: float
    """MiB of PSS per minute, by least squares."""


@dataclass(frozen=True)
class Verdict:
    """A promise, and whether it was kept."""

    promise: str
    found: str
    is_kept: bool
    is_timing: bool = False
    """Whether it is about time, which other programs on the machine change, too."""


@dataclass
class Observed:
    """Everything that a soak has seen."""

    phases: list[Phase] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What was measured once, in words of the report."""
    verdicts: list[Verdict] = field(default_factory=list)
    """Promises that show while it runs."""


def traffic(observed: Observed) -> list[Traffic]:
    """Sum up every phase."""
    found = []
    for phase in observed.phases:
        records = [record for record in observed.records if phase.has(record.due)]
        times = sorted(1e3 * record.seconds for record in records if not record.failure)
        counts = Counter(fate(record, observed) for record in records if record.failure)
        lost, refused = counts.pop(LOST, 0), counts.pop(REFUSED, 0)
        slowest = times[-1] if times else math.nan
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        found.append(Traffic(phase.name, len(records), p50, p99, slowest, dict(counts), lost, refused))
    return found


def fate(record: Record, observed: Observed) -> str:
    """Say what a request failed of; two fates are as they should be."""
    if any(one.had(record) for one in observed.killed):
        return LOST
    away = (phase for phase in observed.phases if phase.store_away)
    if record.ask == EVENT and record.kind == "503" and any(phase.meets(record) for phase in away):
        return REFUSED
    return record.kind


def failures(observed: Observed) -> Counter[str]:
    """Count the failures that should not have been, in all phases and between them."""
    counts = Counter(fate(record, observed) for record in observed.records if record.failure)
    return Counter({kind: count for kind, count in counts.items() if kind not in (LOST, REFUSED)})


def swap_times(observed: Observed) -> tuple[list[float], list[float]]:
    """Return, in order, the times of requests that were due within a swap and between two of them.

    The two have other programs on the machine in common, which the steady phase, minutes before, has not.
    """
    found: tuple[list[float], list[float]] = [], []
    phases = [phase for phase in observed.phases if phase.name == SWAPS]
    for record in observed.records:
        if not record.failure and any(phase.has(record.due) for phase in phases):
            is_between = not any(swap.start <= record.due < swap.start + (swap.seconds or 0) for swap in observed.swaps)
            found[is_between].append(record.seconds)
    return sorted(found[0]), sorted(found[1])


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def memory(observed: Observed) -> list[Memory]:
    """Sum up the samples of every phase."""
    found = []
    for phase in observed.phases:
        samples = [sample for sample in observed.samples if phase.has(sample.at)]
        columns = ([getattr(sample, name) for sample in samples] for name in ("pss", "rss", "files", "threads"))
        pss, rss, files, threads = (statistics.median(column) if column else math.nan for column in columns)
        found.append(Memory(phase.name, pss, rss, files, threads, slope(samples)))
    return found


def slope(samples: Sequence[Sample]) -> float:
    """Return the growth of the memory, in MiB a minute."""
    if len({sample.at for sample in samples}) < 2:
        return math.nan
    return 60 * statistics.linear_regression([one.at for one in samples], [one.pss for one in samples]).slope


def seen(swap: Swap, after: float, records: Iterable[Record]) -> bool:
    """Say whether a client got an answer of the new version before the next move, which was at ``after``."""
    return any(record.version == swap.version and swap.start <= record.due < after for record in records)


def judge(observed: Observed, *, growth: float = GROWTH) -> list[Verdict]:
    """Compare what was seen with what was promised."""
    failed = failures(observed)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(failed.items())) or "0"
    served = Verdict("no request fails, but on connections of a killed worker", kinds, not failed)
    return [served, _moved(observed), *observed.verdicts, *_compared(observed, growth)]


def _moved(observed: Observed) -> Verdict:
    """Look at the swaps."""
    moves = observed.swaps
    ends = [*(swap.start for swap in moves[1:]), math.inf]
    times = [
        swap.seconds
        for swap, end in zip(moves, ends, strict=True)
        if swap.seconds is not None and seen(swap, end, observed.records)
    ]
    found = f"{len(times)} of {len(moves)}"
    if times:
        found += f", median {statistics.median(times):.1f} s, longest {max(times):.1f} s"
    return Verdict("every swap reaches all workers and clients", found, len(times) == len(moves))


def _compared(observed: Observed, growth: float) -> Iterable[Verdict]:
    """Compare phases."""
    times = {one.phase: one.p99_ms for one in traffic(observed)}
    if STEADY in times and SWAPS in times:
        ratio = times[SWAPS] / times[STEADY]
        yield Verdict(
            f"p99 under hot swaps at most {SPIKE:g} times the steady one", f"{ratio:.2f}", ratio <= SPIKE, True
        )
    within, between = swap_times(observed)
    if within and between:
        ratio = percentile(within, 0.99) / percentile(between, 0.99)
        promise = f"p99 within a swap at most {SPIKE:g} times that between two of them"
        yield Verdict(promise, f"{ratio:.2f}", ratio <= SPIKE, True)
    sizes = {one.phase: one.pss for one in memory(observed)}
    if STEADY in sizes and AFTER in sizes:
        ratio = sizes[AFTER] / sizes[STEADY]
        yield Verdict(f"memory at the end at most {growth:g} times that before", f"{ratio:.3f}", ratio <= growth)
    for phase in observed.phases:
        if phase.name == SWAPS:
            ratio = late_growth([sample.pss for sample in observed.samples if phase.has(sample.at)])
            promise = f"memory late in the swaps at most {SWAP_GROWTH:g} times that early in them"
            if not math.isnan(ratio):
                yield Verdict(promise, f"{ratio:.3f}", ratio <= SWAP_GROWTH)


def late_growth(sizes: Sequence[float]) -> float:
    """Compare the last quarter of a series with the second one; in the first one, memory is taken that is kept."""
    quarter = len(sizes) // 4
    if quarter == 0:
        return math.nan
    return statistics.median(sizes[-quarter:]) / statistics.median(sizes[quarter : 2 * quarter])
