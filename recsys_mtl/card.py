"""The model card: what a bundle is and how far it may be trusted, with measured numbers only."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Tree = Mapping[str, Any]
Split = Mapping[str, Mapping[str, float | None]]

FEW_POSITIVES = 100
"""With fewer, the standard error of an AUC of 0.75 is above 0.03 (Hanley and McNeil, 1982)."""
OFTEN_UNKNOWN = 0.01
"""Share of values without an embedding of their own from which a field is named."""

BINARY_COLUMNS = {"AUC": "auc", "GAUC": "gauc", "GAUC coverage": "gauc_coverage", "log-loss": "logloss"}
BINARY_COLUMNS |= {"normalised entropy": "normalized_entropy"}
AMOUNT_COLUMNS = {"RMSE": "rmse", "MAE": "mae", "XAUC": "xauc", "predicted / observed": "calibration"}
CALIBRATION_COLUMNS = {"predicted / observed": "calibration", "ECE": "ece"}


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from."""

    run: Mapping[str, object]
    """Where the model comes from, such as run id, seed and git commit; printed as it is."""
    data: Tree
    """``stats.json`` of the prepared data set."""
    tasks: Sequence[Tree]
    """The tasks as in the specification: ``name``, ``kind``, ``space``, ``unit``."""
    model: Tree
    """The resolved architecture: ``bottom``, ``experts`` and ``heads``."""
    parameters: Mapping[str, int]
    """Number of weights by part, such as embedding tables and dense layers."""
    calibration: Tree
    """``calibration.json``: the calibrator of each task."""
    metrics: Mapping[str, Split]
    """By split and task, measured on the bundle's weights; the last split is the one to judge by."""
    calibrated: bool = False
    """Whether the metrics are those of calibrated probabilities, as they are served."""
    fits: Mapping[str, Tree] = field(default_factory=dict)
    """By event, the calibration error on held-out rows, ``ece_before`` and ``ece_after``; nothing if unknown."""
    health: Sequence[str] | None = None
    """What is wrong with the experts, measured on the last split; nothing if it was not measured."""


def model_card(name: str, facts: CardFacts) -> str:
    """Write the Markdown card of a registered model."""
    sections = {
        name: [_summary(facts)],
        "Origin": [_table(("", ""), [(key.replace("_", " "), str(value)) for key, value in facts.run.items()])],
        "Data": _data(facts),
        "Architecture": _architecture(facts),
        "Quality": [block for split in facts.metrics for block in _quality(facts, split)],
        "Calibration": _calibration(facts),
        **({} if facts.health is None else {"Expert health": [_health(facts.health)]}),
        "Limits": ["\n".join(f"- {limit}" for limit in _limits(facts))],
        "Serving": [_serving(name)],
    }
    blocks = [block for title, body in sections.items() for block in (f"## {title}", *body)]
    return "\n\n".join(blocks).removeprefix("#") + "\n"


def _summary(facts: CardFacts) -> str:
    kinds = ", ".join(f"{part} `{settings['kind']}`" for part, settings in facts.model.items() if "kind" in settings)
    what = "\n".join(f"- `{task['name']}`: {_meaning(task)}" for task in facts.tasks)
    return f"A multi-task ranking model ({kinds}). For every candidate it predicts\n\n{what}"


def _meaning(task: Tree) -> str:
    if task["kind"] == "regression":
        return f"an amount in {task['unit']}" if task.get("unit") else "an amount"
    return f"a probability, given `{task['space']}`" if task.get("space") else "a probability"


def _data(facts: CardFacts) -> list[str]:
    splits: Mapping[str, Tree] = facts.data["splits"]
    names = [task["name"] for task in facts.tasks]
    rows = [("rows", *(f"{split['rows']:,}" for split in splits.values()))]
    rows += [(f"`{name}`", *(_label(split["tasks"][name]) for split in splits.values())) for name in names]
    period = f"All rows are of {facts.data['day']}; each split holds them all" if "day" in facts.data else None
    intro = (
        f"Specification `{facts.data['fingerprint']}`. {period or 'The period that the rows cover is not recorded'}."
    )
    return [intro, _table(("", *splits), rows), "Rates and means are over the rows whose label is known."]


def _label(counts: Tree) -> str:
    if not counts["known"]:
        return "no known labels"
    value = f"{100 * counts['rate']:.3g} %" if "rate" in counts else f"mean {counts['mean']:.4g}"
    return f"{value} of {counts['known']:,}"


def _architecture(facts: CardFacts) -> list[str]:
    settings = [(f"{part}.{key}", f"`{value}`") for part, tree in facts.model.items() for key, value in tree.items()]
    sizes = [(f"weights, {part}", f"{count:,}") for part, count in facts.parameters.items()]
    return [_table(("", ""), [*settings, *sizes])]


def _quality(facts: CardFacts, split: str) -> list[str]:
    binary = _measured(facts, split, "binary", BINARY_COLUMNS, counts=("rows", "positives"))
    amounts = _measured(facts, split, "regression", AMOUNT_COLUMNS, counts=("rows",))
    return [f"### {split}", *binary, *amounts]


def _calibration(facts: CardFacts) -> list[str]:
    split = _judged(facts)
    fitted = facts.calibration.get("tasks", {})
    names = [task["name"] for task in facts.tasks if task["kind"] == "binary"]
    lines = [f"- `{name}`: {_calibrator(fitted.get(name, {'kind': 'identity'}))}{_gain(facts, name)}" for name in names]
    measured = _measured(facts, split, "binary", CALIBRATION_COLUMNS, counts=("rows", "positives"))
    state = "as served" if facts.calibrated or not fitted else "of the model's own probabilities, before calibration"
    return ["\n".join(lines), f"On {split}, {state}:", *measured] if names else ["No task is a probability."]


def _calibrator(settings: Tree) -> str:
    if settings["kind"] == "isotonic":
        return f"isotonic ({len(settings['logits'])} knots)"
    parameters = ", ".join(f"{key} {value:.4g}" for key, value in settings.items() if key != "kind")
    return f"{settings['kind']} ({parameters})" if parameters else str(settings["kind"])


def _gain(facts: CardFacts, name: str) -> str:
    before, after = (facts.fits.get(name, {}).get(key) for key in ("ece_before", "ece_after"))
    if before is None or after is None:
        return ""
    return f"; ECE on users held out from its fit {before:.4f} before, {after:.4f} after"


def _measured(
    facts: CardFacts, split: str, kind: str, columns: Mapping[str, str], *, counts: tuple[str, ...]
) -> list[str]:
    """Return a table of the metrics of all tasks of a kind, if there are any, with what they rest on."""
    measured = facts.metrics[split]
    rows = [
        (
            f"`{task['name']}`",
            *(f"{int(measured[task['name']][count] or 0):,}" for count in counts),
            *(_number(measured[task["name"]].get(key)) for key in columns.values()),
        )
        for task in facts.tasks
        if task["kind"] == kind
    ]
    return [_table(("task", *counts, *columns), rows)] if rows else []


def _health(alarms: Sequence[str]) -> str:
    if not alarms:
        return "Nothing alarming: no expert collapsed, degraded or underfitted."
    return "\n".join(f"- {alarm}" for alarm in alarms)


def _limits(facts: CardFacts) -> Iterable[str]:
    split = _judged(facts)
    yield (
        "Measured on logged impressions, which an earlier ranking chose: nothing is known about candidates that it did "
        "not show, nor about the effect of showing what this model prefers."
    )
    train = facts.data["splits"]["train"]
    for task in facts.tasks:
        name, known = task["name"], train["tasks"][task["name"]]["known"]
        positives = facts.metrics[split][name].get("positives")
        if positives is not None and positives < FEW_POSITIVES:
            yield f"`{name}` has {int(positives)} positives in {split}: too few for its metrics to be relied on."
        if task.get("space"):
            yield f"`{name}` was learned and measured only where `{task['space']}` is positive."
        elif known < train["rows"]:
            yield f"`{name}` was learned from the {100 * known / train['rows']:.3g} % of rows whose label is known."
    yield from _unknown_values(facts.data["splits"].get(split, {}).get("fields", {}), split)


def _unknown_values(fields: Mapping[str, Tree], split: str) -> Iterable[str]:
    shares = {name: field["unknown"] / field["values"] for name, field in fields.items() if field["values"]}
    for name, share in shares.items():
        if share >= OFTEN_UNKNOWN:
            yield f"{100 * share:.3g} % of the values of `{name}` in {split} are new and share one vector."


def _serving(name: str) -> str:
    return (
        f"```sh\nrecsys-mtl serve --model 'models:/{name}@champion'\n```\n\n"
        "`golden.jsonl` holds requests with the scores that they must get: a server checks them before it answers."
    )


def _judged(facts: CardFacts) -> str:
    return list(facts.metrics)[-1]


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
