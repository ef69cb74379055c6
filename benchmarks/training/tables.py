"""The tables of the report: rates beside peers, limits of the machine, memory and start-up."""

from collections.abc import Iterable, Sequence

from benchmarks.results import Result
from benchmarks.rounds import Figure
from benchmarks.text import markdown_table, number, percent
from benchmarks.training.figures import (
    amount_rate,
    bytes_per_weight,
    figure,
    milliseconds,
    of_part,
    over,
    over_peers,
    rate_share,
    rates,
    speed_over,
)
from benchmarks.training.models import COMPARED
from benchmarks.training.plan import (
    FILES,
    GRID,
    LOW,
    OURS,
    OWN,
    PARTS,
    PROFILE,
    RAY_1,
    RAY_2,
    READING,
    ROWS,
    STARTUP,
)  # fmt: skip

GIGA, MIB = 1e9, 2**20


def grid_table(results: Sequence[Result]) -> str:
    """Rates on batches in memory, beside peers."""
    found = rates(results, GRID)
    systems = systems_of(found.values())
    ours = [mine for mine in (OURS, LOW) if mine in systems]
    rows = []
    for (case, size), by_system in found.items():
        cells = [rate(by_system.get(system, {})) for system in systems]
        rows.append([case, f"{size:,}", *cells, *(text(over_peers(by_system, mine)) for mine in ours)])
    ratios = [f"{'in bfloat16' if mine == LOW else 'ours'} / best peer" for mine in ours]
    return markdown_table(["model, rows of each table", "batch", *systems, *ratios], rows)


def own_table(results: Sequence[Result], part: str) -> str:
    """Rates of models that peers do not have."""
    found = rates(results, part)
    systems = systems_of(found.values())
    rows = [[case, f"{size:,}", *(rate(s.get(system, {})) for system in systems)] for (case, size), s in found.items()]
    return markdown_table(["model", "batch", *systems], rows)


def files_table(results: Sequence[Result]) -> str:
    """Rates from Parquet files, with what is around them."""
    found, of_files = rates(results, FILES), of_part(results, FILES)
    rows = []
    for (case, _), by_system in found.items():
        best = over_peers(by_system, RAY_1)
        for system, by_round in by_system.items():
            same = [one for one in of_files if one["case"] == case and one["system"] == system]
            memory = over(by_round, [by_system.get(OURS, {})]) if system in (RAY_1, RAY_2) else None
            others = [median(same, "waited", 2), median(same, "read_s"), median(same, "command_s", 0)]
            rows.append(
                [f"{case}: {system}", rate(by_round), text(memory), *others, text(best if system == RAY_1 else None)]
            )
    header = ["from Parquet (but for the first line)", "rows/s of steps", "/ in memory", "waiting", "reading before, s"]
    return markdown_table([*header, "whole command, s", "ours / best peer"], rows)


def sizes_table(results: Sequence[Result]) -> str:
    """Weights of every system's models."""
    sizes: dict[str, dict[str, Result]] = {}
    for one in of_part(results, GRID) + of_part(results, OWN):
        sizes.setdefault(one["case"].split(",")[0], {})[one["system"]] = one
    systems = list(dict.fromkeys(system for found in sizes.values() for system in found))
    rows = []
    for model, found in sizes.items():
        weights = [f"{found[system]['dense']:,}" if system in found else "–" for system in systems]
        rows.append([model, *weights, number(found[OURS]["row"], 0) if OURS in found else "–"])
    return markdown_table(["dense weights", *systems, "multiply-adds of a row, ours"], rows)


def limits_table(results: Sequence[Result]) -> str:
    """The dense part beside GEMM, the tables beside memory, and the whole step."""
    rows = []
    for one in of_part(results, PARTS):
        works = ("step", "dense", "dense bf16", "tables", "optimiser")
        times = [text(milliseconds(one, work) if work in one["seconds"] else None, 1) for work in works]
        gemm, bf16, triad = (amount_rate(one, work, GIGA) for work in ("gemm", "gemm bf16", "triad"))
        shares = [text(rate_share(one, "dense", "gemm")), text(rate_share(one, "tables", "triad"))]
        rows.append(
            [
                one["case"],
                *times,
                number(gemm.median, 0),
                shares[0],
                number(bf16.median, 0),
                number(triad.median, 1),
                shares[1],
            ]
        )
    parts = ["step, ms", "dense part, ms", "in bf16, ms", "tables, ms", "dense optimiser, ms"]
    limits = ["GEMM, GFLOP/s", "dense / GEMM", "GEMM in bf16", "triad, GB/s", "tables / triad"]
    return markdown_table(["model", *parts, *limits], rows)


def evaluation_table(results: Sequence[Result]) -> str:
    """Evaluation beside training's forward pass."""
    rows = [
        [one["case"], *(text(speed_over(one, work, "forward")) for work in ("evaluate", "examine"))]
        for one in of_part(results, PARTS)
    ]
    return markdown_table(["speed, forward pass in training = 1", "evaluation", "with health of experts"], rows)


def reading_table(results: Sequence[Result]) -> str:
    """Rows per second of reading and writing."""
    names = {"scan": "pyarrow alone", "read": "shuffled batches, one reader", "prepare": "generate, encode and write"}
    found = of_part(results, READING)
    rows = [[names[work], text(amount_rate(one, work), 0)] for one in found for work in names]
    return markdown_table(["files", "rows/s"], rows)


def memory_table(results: Sequence[Result]) -> str:
    """Memory for each weight of a table, by system, and peaks by rows of data."""
    found = of_part(results, GRID)
    systems = list(dict.fromkeys(one["system"] for one in found))
    rows = [[model, *(text(bytes_per_weight(found, s, model)) for s in systems)] for model in COMPARED]
    weights = markdown_table(["memory per table weight, in fp32 weights", *systems], rows)
    peaks = [
        [f"{one['settings']['shape']['rows']:,}", number(one["peak_bytes"] / MIB, 0)] for one in of_part(results, ROWS)
    ]
    return f"{weights}\n\n{markdown_table(['rows of training data', 'peak of the process, MiB'], peaks)}"


def startup_table(results: Sequence[Result]) -> str:
    """Seconds before the first batch."""
    rows = [
        [name, text(Figure(tuple(seconds)), 1)]
        for one in of_part(results, STARTUP)
        for name, seconds in one["seconds"].items()
    ]
    commands = [one for one in of_part(results, FILES) if one["system"] in (RAY_1, RAY_2)]
    for name, key in (("command until the run begins", "begins_s"), ("command until the first batch", "first_batch_s")):
        rows += [[name, median(commands, key)]] if commands else []
    around = Figure(tuple(one["command_s"] - one["trained_s"] for one in commands)) if commands else None
    return markdown_table(["what", "s"], [*rows, ["command without its training steps", text(around, 1)]])


def profile_table(results: Sequence[Result]) -> str:
    """Operations that take most of a step."""
    rows = []
    for one in of_part(results, PROFILE):
        for name, share, calls in one["shares"]:
            rows.append([f"{one['case']}: `{name}`", percent(share), number(share * one["ms"], 1), number(calls, 1)])
    return markdown_table(["operation", "share of a step", "ms", "calls"], rows)


def systems_of(found: Iterable[Iterable[str]]) -> list[str]:
    """Name all systems, in the order in which they come."""
    return list(dict.fromkeys(system for systems in found for system in systems))


def rate(by_round: dict[int, float]) -> str:
    """Print rows per second."""
    return text(figure(by_round), 0)


def text(found: Figure | None, digits: int = 2) -> str:
    """Print a figure; a dash where there is none."""
    return "–" if found is None else found.text(digits)


def median(results: Sequence[Result], key: str, digits: int = 1) -> str:
    """Print the median of what some results know."""
    values = tuple(one[key] for one in results if key in one)
    return number(Figure(values).median, digits) if values else "–"
