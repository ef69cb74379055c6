"""Figures made from results: rates by system, and ratios within a round."""

from collections.abc import Callable, Iterable, Mapping

from benchmarks.results import Result
from benchmarks.rounds import Figure
from benchmarks.spread import BySeed
from benchmarks.training.plan import PEER_OF

Rates = dict[tuple[str, int], dict[str, BySeed]]
"""Rows per second by case and batch size, by system, by round."""


def of_part(results: Iterable[Result], part: str) -> list[Result]:
    """Choose the results of a part of the report."""
    return [result for result in results if result["part"] == part]


def rates(results: Iterable[Result], part: str) -> Rates:
    """Sort the rates of a part."""
    found: Rates = {}
    for result in of_part(results, part):
        for rate in result["rates"]:
            systems = found.setdefault((result["case"], rate["batch_size"]), {})
            systems.setdefault(result["system"], {})[result["repeat"]] = rate["rows_per_s"]
    return found


def figure(by_round: BySeed) -> Figure | None:
    """Join the rounds."""
    return Figure(tuple(by_round.values())) if by_round else None


def over(mine: BySeed, others: Iterable[BySeed]) -> Figure | None:
    """Divide by the best of the others, round by round."""
    their_best: BySeed = {}
    for other in others:
        for number, rate in other.items():
            their_best[number] = max(rate, their_best.get(number, 0.0))
    return figure({number: rate / their_best[number] for number, rate in mine.items() if number in their_best})


def over_peers(systems: Mapping[str, BySeed], mine: str) -> Figure | None:
    """Divide our rate by the best peer's."""
    return over(systems.get(mine, {}), [by_round for system, by_round in systems.items() if system in PEER_OF])


def by_turn(result: Result, make: Callable[[dict[str, float]], float]) -> Figure:
    """Make a figure of each turn's seconds, by piece of work."""
    turns = zip(*result["seconds"].values(), strict=True)
    return Figure(tuple(make(dict(zip(result["seconds"], turn, strict=True))) for turn in turns))


def milliseconds(result: Result, work: str) -> Figure:
    """Return the time of a piece of work."""
    return by_turn(result, lambda s: 1e3 * s[work])


def speed_over(result: Result, work: str, other: str) -> Figure:
    """Return how many times as fast a piece of work is as another."""
    return by_turn(result, lambda s: s[other] / s[work])


def rate_share(result: Result, work: str, limit: str) -> Figure:
    """Divide the rate of a piece of work by that of the machine's limit, turn by turn."""
    amounts = result["amounts"]
    return by_turn(result, lambda s: (amounts[work] / s[work]) / (amounts[limit] / s[limit]))


def amount_rate(result: Result, work: str, unit: float = 1.0) -> Figure:
    """Return how much a piece of work does in a second."""
    return by_turn(result, lambda s: result["amounts"][work] / s[work] / unit)


def bytes_per_weight(results: Iterable[Result], system: str, model: str) -> Figure | None:
    """Return the memory of a table weight in training, in fp32 weights, from the largest and the smallest tables."""
    found: dict[int, list[Result]] = {}
    for result in results:
        if result["system"] == system and result["case"].startswith(f"{model},"):
            found.setdefault(result["repeat"], []).append(result)
    values = []
    for same_round in found.values():
        small, large = (choose(same_round, key=lambda result: result["tables"]) for choose in (min, max))
        if small["tables"] < large["tables"]:
            more = large["peak_bytes"] - small["peak_bytes"]
            values.append(more / (4 * (large["tables"] - small["tables"])))
    return Figure(tuple(values)) if values else None
