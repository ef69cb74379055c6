"""The part of the report that is not about quality: sizes, experts, time and learning rates."""

from benchmarks.quality.facts import Facts, Sizes
from benchmarks.quality.flops import BATCH_ROWS, off_target
from benchmarks.quality.plan import Plan
from benchmarks.quality.scores import HEALTH_COLUMNS, health_of
from benchmarks.spread import Spread
from benchmarks.text import markdown_table, number


def sizes_table(plan: Plan, sizes: Sizes) -> str:
    """Weights and multiply-adds, with a mark where a model is not of the common size."""
    rows = []
    for model, parts in sizes.items():
        whole = sum(parts[1:], parts[0])
        largest = max((part.dense for part in parts), key=lambda dense: abs(off_target(dense, plan.dense_parameters)))
        off = off_target(largest, plan.dense_parameters)
        mark = " **off**" if abs(off) > plan.tolerance else ""
        times = f"{len(parts)} × " if len(parts) > 1 else ""
        cells = [f"{times}{largest:,}", f"{off:+.1%}{mark}", f"{whole.tables:,}"]
        rows.append([model, *cells, f"{whole.row:,}", f"{whole.batch_row:,.0f}"])
    heads = ["model", "dense weights", f"to {plan.dense_parameters:,}", "table weights"]
    table = markdown_table([*heads, "multiply-adds of a row", f"each of {BATCH_ROWS}"], rows)
    note = (
        f"More than {plan.tolerance:.0%} away from the common size is marked. A model for each task has that size for "
        "every one of them; its other columns are sums. Multiply-adds are those of the matrix products of a forward "
        "pass of the dense part, with sequences of full length; look-ups of embeddings are not among them."
    )
    return f"{table}\n\n{note}"


def health_table(facts: Facts) -> str:
    """The worst figures of the experts over a model's runs."""
    rows = []
    for model in facts.trained:
        runs = [result for result in facts.results if result["model"] == model]
        worst = health_of(runs)
        states = sorted({str(run["state"]) for run in runs if run.get("state")})
        if worst or states:
            cells = [f"{worst[column]:.3g}" if column in worst else "–" for column in HEALTH_COLUMNS]
            rows.append([model, *cells, "; ".join(states) or "–"])
    return markdown_table(["model", *HEALTH_COLUMNS, "state"], rows) if rows else "No run has recorded any."


def speed_table(facts: Facts) -> str:
    """Training time; a model for each task takes the sum of its runs."""
    rows = []
    for model in facts.trained:
        runs = [result for result in facts.results if result["model"] == model]
        seeds = len({run["seed"] for run in runs})
        cells = [sum(run.get(part) or 0.0 for run in runs) / seeds for part in ("seconds", "command_s")]
        rate = Spread.of(run["rows_per_s"] for run in runs if "rows_per_s" in run).mean
        rows.append([model, *(f"{cell:,.0f}" if cell else "–" for cell in cells), number(rate, 0)])
    note = "Means over seeds. The whole command also starts Ray, evaluates, and writes and registers the bundle."
    return f"{markdown_table(['model', 'training s', 'whole command s', 'rows/s'], rows)}\n\n{note}"


def rates_table(facts: Facts) -> str:
    """Chosen learning rates."""
    rows = [[name, f"{rate:g}"] for name, rate in facts.rates.items()]
    tried = ", ".join(f"{rate:g}" for rate in facts.plan.rates)
    note = f"Chosen on validation with one seed among {tried}, by the metric that a run keeps its weights by."
    if not facts.searched:
        note = "Those of the models' own settings; nothing was searched."
    return f"{markdown_table(['model', 'optim.dense.lr'], rows)}\n\n{note}"
