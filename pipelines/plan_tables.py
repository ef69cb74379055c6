"""How a plan is printed."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

SHOWN = 20
"""Tables that are printed, the largest ones; the JSON file has all."""
SHOWN_WORKERS = 8
"""Workers that are printed, the fullest ones."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def tables_table(tables: list[dict[str, Any]]) -> Table:
    """Lay the tables out, the largest first."""
    left = len(tables) - SHOWN
    table = Table(title="Tables", caption=f"and {left} smaller ones" if left > 0 else None)
    for name in ("table", "kind", "sharding", "workers"):
        table.add_column(name, overflow="fold")
    for name in ("rows", "width", "weights", "moments", "ids/row", "sent/step"):
        table.add_column(name, justify="right")
    for facts in tables[:SHOWN]:
        names = (facts["table"], facts["kind"], facts["sharding"], ranges(facts["workers"]))
        sizes = (size(facts["weights"]), size(facts["moments"]))
        counts = (f"{facts['ids_per_row']:.3g}", size(facts["bytes_per_step"]))
        table.add_row(*names, f"{facts['rows']:,}", str(facts["dim"]), *sizes, *counts)
    return table


def workers_table(workers: list[dict[str, Any]]) -> Table:
    """Lay out what each worker holds and sends, the fullest first."""
    left = len(workers) - SHOWN_WORKERS
    caption = f"the fullest, and {left} others" if left > 0 else None
    table = Table(title="Workers, without activations and data", caption=caption)
    held, sends = ("weights", "moments", "dense", "total"), ("ids", "vectors", "gradients", "network")
    headings = ("worker", "tables", "weights of tables", "their moments", "dense part", "total")
    for name in (*headings, "ids/step", "vectors/step", "gradients/step", "over network"):
        table.add_column(name, justify="right")
    for share in sorted(workers, key=lambda share: (-share["total"], share["worker"]))[:SHOWN_WORKERS]:
        sizes = (size(share[name]) for name in (*held, *sends))
        table.add_row(str(share["worker"]), str(share["tables"]), *sizes)
    return table


def summary(facts: dict[str, Any]) -> str:
    """Say how the work is divided, and what the workers send each other."""
    batch, each = facts["rows_per_step"], facts["rows_per_worker_and_step"]
    data = "" if facts["train_rows"] is None else f"{facts['train_rows']:,} training rows, {facts['steps']:,} steps of "
    fullest = most([share["weights"] for share in facts["workers"]])
    busiest = most([share["vectors"] for share in facts["workers"]])
    lines = [
        f"{data}{batch:,} rows{'' if data else ' a step'}, {each:,.0f} of them for each worker; the fullest worker "
        f"holds {fullest:.2f} times the mean, the busiest sends {busiest:.2f} times the mean of vectors",
        f"each worker sends {size(facts['all_reduced_per_worker'])} a step to sum gradients of the dense part and of "
        "replicated tables",
    ]
    if times := facts["milliseconds"]:
        links = facts["links"]
        listed = ", ".join(f"{name.replace('_', '-')} {value:.3g}" for name, value in times.items())
        lines.append(
            f"at the least {sum(times.values()):.3g} ms of communication a step ({listed}), if a worker sends "
            f"{links['node_gb_per_s']:g} GB/s within a machine and {links['network_gb_per_s']:g} GB/s out of it"
        )
    return "\n".join([*lines, f"planned in {facts['plan_seconds']:.1f} s"])


def most(amounts: Sequence[float]) -> float:
    """Return how many times the mean the largest amount is."""
    return max(amounts) * len(amounts) / (sum(amounts) or 1)


def ranges(workers: Sequence[int]) -> str:
    """Print sorted numbers, runs of them as ``2-5``."""
    runs: list[list[int]] = []
    for worker in workers:
        if runs and worker == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], worker]
        else:
            runs.append([worker])
    return ",".join("-".join(map(str, run)) for run in runs)


def size(amount: float) -> str:
    """Print bytes."""
    for unit in UNITS[:-1]:
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:,.2f} {unit}"
        amount /= 1024
    return f"{amount:,.2f} {UNITS[-1]}"
