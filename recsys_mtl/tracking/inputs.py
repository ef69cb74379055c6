"""The data set that a run learns from, as MLflow's pages show it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from recsys_mtl.tracking.client import RunHandle

CONTEXT = "mlflow.data.context"


@dataclass(frozen=True)
class DataSet:
    """A prepared data set."""

    name: str
    digest: str
    """Equal for equal data: two runs with the same one can be compared."""
    place: str
    """Directory or address."""
    rows: Mapping[str, int]
    """By split."""
    columns: Mapping[str, Mapping[str, Any]]
    """Type of each, as MLflow writes it: ``{"type": "long"}``."""


def log_data(run: RunHandle, data: DataSet) -> None:
    """Say what a run learns from; saying it again changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    schema = {"mlflow_colspec": [{"name": name, "required": True, **kind} for name, kind in data.columns.items()]}
    profile = {"num_rows": sum(data.rows.values()), **{f"{split}_rows": count for split, count in data.rows.items()}}
    known = Dataset(
        name=data.name,
        digest=data.digest,
        source_type=urlsplit(data.place).scheme or "local",
        source=json.dumps({"uri": data.place}),
        schema=json.dumps(schema),
        profile=json.dumps(profile),
    )
    run.client.log_inputs(run.run_id, [DatasetInput(known, [InputTag(CONTEXT, "training")])])
