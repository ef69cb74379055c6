"""What MLflow's pages say of a run's data and of a version: written once, read by everyone who compares."""

import json
import re
from typing import Any

from recsys_mtl.data.feature_kinds import IdFeature, NumberFeature, SequenceFeature
from recsys_mtl.data.spec import Spec
from recsys_mtl.storage import absolute, locate
from recsys_mtl.tracking import DataSet

LENGTH = 4000
"""Of a version's description. MLflow's databases keep 5000 characters; verdicts are added to it."""
DETAIL = "## Architecture"
"""Section of the card that a version's run has as parameters."""
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


def description(headline: str, card: str) -> str:
    """Write a version's description: how good it is in one line, and the sections of its card that have room."""
    text = f"{headline}\n\n"
    for section in re.split(r"(?m)^(?=#{1,2} )", card):
        if not section.startswith(DETAIL) and len(text) + len(section) + len(WHOLE) <= LENGTH:
            text += section
    return f"{text.rstrip()}\n\n{WHOLE}"
