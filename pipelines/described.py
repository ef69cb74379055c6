"""What MLflow's pages say of a run's data and of a version: written once, read by everyone who compares."""

import json
import re
from typing import Any

from pipelines.run import TrainRun
from recsys_mtl.data.feature_kinds import IdFeature, NumberFeature, SequenceFeature
from recsys_mtl.data.spec import Spec
from recsys_mtl.storage import absolute, locate
from recsys_mtl.tracking import DataSet
from recsys_mtl.training.select import Metrics

LENGTH = 4000
"""Of a version's description. MLflow's databases keep 5000 characters; verdicts are added to it."""
SHOWN = ("Quality", "Limits", "Expert health", "Data", "Calibration", "Serving")
"""Sections of the card by what a reader wants first; of the quality that on the last split alone."""
WHOLE = "The whole card is `bundle/MODEL_CARD.md` among the files of the run.\n"


def data_set(path: str, spec: Spec) -> DataSet:
    """Describe a prepared data set."""
    stats = json.loads((locate(path) / "stats.json").read_text())
    rows = {split: counts["rows"] for split, counts in stats["splits"].items()}
    place = absolute(path)
    name = place.rstrip("/").rpartition("/")[2]
    return DataSet(name, spec.fingerprint, place, rows, columns_of(spec))


def columns_of(spec: Spec) -> dict[str, dict[str, Any]]:
    """Return the type of every input and label, as they are in the data set's files."""
    listed = {"type": "array", "items": {"type": "long"}}
    columns: dict[str, dict[str, Any]] = {}
    for feature in spec.features:
        if isinstance(feature, SequenceFeature):
            columns |= {column.name: listed for column in feature.columns}
        elif isinstance(feature, NumberFeature) and feature.boundaries is None:
            columns[feature.name] = {"type": "double"}
        else:
            columns[feature.name] = {"type": "long"} if isinstance(feature, IdFeature | NumberFeature) else listed
    return columns | {task.name: {"type": "double"} for task in spec.tasks}


def held_out(run: TrainRun) -> str:
    """Name the rows that a run's final metrics are of."""
    return "before learning these rows" if run.trainer.progressive else "test split"


def headline(metrics: Metrics, rows: str) -> str:
    """Say in one line how good a version is."""
    return f"{rows}: " + ", ".join(
        f"{task} AUC {values['auc']:.4f}" for task, values in metrics.items() if "auc" in values
    )


def description(line: str, card: str) -> str:
    """Write a version's description: how good it is in one line, and the sections of its card that have room."""
    summary, *sections = re.split(r"(?m)^(?=## )", card)
    found = {section.partition("\n")[0].removeprefix("## "): section for section in sections}
    before, last = found["Quality"].split("### ", 1)[0], found["Quality"].rpartition("### ")[2]
    found["Quality"] = f"{before}### {last}"
    text = f"{line}\n\n{summary}"
    for name in SHOWN:
        section = found.get(name, "")
        text += section if len(text) + len(section) + len(WHOLE) < LENGTH else ""
    return f"{text.rstrip()}\n\n{WHOLE}"
