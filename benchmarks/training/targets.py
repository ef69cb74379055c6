"""What training is meant to reach, and whether it does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Result
from benchmarks.rounds import Figure
from benchmarks.text import markdown_table
from benchmarks.training.figures import bytes_per_weight, of_part, over, over_peers, rate_share, rates
from benchmarks.training.models import COMPARED
from benchmarks.training.plan import BATCH, FILES, GRID, OURS, PARTS, RAY_1, RAY_2, ROWS

AHEAD = {1_000: 1.5, 100_000: 3.0, 1_000_000: 10.0}
"""How far ahead of the best peer, by rows of each table."""


@dataclass(frozen=True)
class Target:
    """A bound, and what was found of it by case."""

    name: str
    bound: float
    found: Mapping[str, Figure]
    at_most: bool = False

    @property
    def worst(self) -> tuple[str, Figure]:
        """The case that is furthest from its bound in the wrong direction."""
        choose = max if self.at_most else min
        return choose(self.found.items(), key=lambda item: item[1].median)

    @property
    def is_met(self) -> bool:
        """Whether every case is within the bound."""
        value = self.worst[1].median
        return value <= self.bound if self.at_most else value >= self.bound

    def row(self) -> list[str]:
        """Lay out a line of the table."""
        sign = "≤" if self.at_most else "≥"
        if not self.found:
            return [self.name, f"{sign} {self.bound:g}", "not measured", "–", "–"]
        case, worst = self.worst
        medians = sorted(figure.median for figure in self.found.values())
        met = "yes" if self.is_met else "**no**"
        return [
            self.name,
            f"{sign} {self.bound:g}",
            f"{worst.text()}, {case}",
            f"{medians[0]:.2f}–{medians[-1]:.2f}",
            met,
        ]


def targets(results: Sequence[Result]) -> list[Target]:
    """Judge the results."""
    files, fewest = rates(results, FILES), "best peer, rows of each table"
    return [
        *(
            Target(f"compute only: ours / {fewest} {rows:,}", bound, ahead(results, rows))
            for rows, bound in AHEAD.items()
        ),
        Target(
            "from Parquet: ours on Ray / best peer", 3.0, kept((c, over_peers(s, RAY_1)) for (c, _), s in files.items())
        ),
        Target("ours: from Parquet / compute only", 0.9, pairs(results, RAY_1, OURS)),
        Target("dense part, forward and backward: share of GEMM peak", 0.7, dense_shares(results)),
        Target("2 workers × 1 thread / 1 worker × 2 threads", 0.9, pairs(results, RAY_2, RAY_1)),
        Target("memory per table weight, in fp32 weights", 1.1, weights(results), at_most=True),
        Target("peak memory, most / fewest rows", 1.1, growth(results), at_most=True),
    ]


def ahead(results: Sequence[Result], vocabulary: int) -> dict[str, Figure]:
    """Compare with the best peer at every batch size."""
    cells = ((case, size, systems) for (case, size), systems in rates(results, GRID).items())
    wanted = f"vocabulary {vocabulary:,}"
    return kept(
        (f"{case.split(',')[0]}, batch {size:,}", over_peers(systems, OURS))
        for case, size, systems in cells
        if case.endswith(wanted)
    )


def pairs(results: Sequence[Result], mine: str, other: str) -> dict[str, Figure]:
    """Compare two of our own ways from files."""
    found = rates(results, FILES).items()
    return kept((case, over(systems.get(mine, {}), [systems.get(other, {})])) for (case, _), systems in found)


def dense_shares(results: Sequence[Result]) -> dict[str, Figure]:
    """Compare the dense part with the machine's GEMM rate; models that peers have, at the common size."""
    wanted = {f"{model}, batch {BATCH:,}, vocabulary 100,000": model for model in COMPARED}
    found = of_part(results, PARTS)
    return {wanted[one["case"]]: rate_share(one, "dense", "gemm") for one in found if one["case"] in wanted}


def weights(results: Sequence[Result]) -> dict[str, Figure]:
    """Return memory for each weight of a table, by model."""
    found = of_part(results, GRID)
    return kept((model, bytes_per_weight(found, OURS, model)) for model in COMPARED)


def growth(results: Sequence[Result]) -> dict[str, Figure]:
    """Compare the peak memory of the longest run with that of the shortest."""
    by_rows = {one["settings"]["shape"]["rows"]: one["peak_bytes"] for one in of_part(results, ROWS)}
    if len(by_rows) < 2:
        return {}
    fewest, most = min(by_rows), max(by_rows)
    return {f"{fewest:,} and {most:,} rows": Figure((by_rows[most] / by_rows[fewest],))}


def kept(found: Iterable[tuple[str, Figure | None]]) -> dict[str, Figure]:
    """Leave out what was not measured."""
    return {case: figure for case, figure in found if figure is not None}


def targets_table(results: Sequence[Result]) -> str:
    """Lay out all targets."""
    rows = [target.row() for target in targets(results)]
    return markdown_table(["figure", "target", "found, worst case (range over rounds)", "all cases", "met"], rows)
