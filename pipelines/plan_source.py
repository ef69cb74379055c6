"""What a plan is made for: a prepared data set, or its specification alone."""

import json
from dataclasses import dataclass

import torch

from pipelines.run import TrainRun
from pipelines.worker import WorkerProgram
from recsys_mtl.config import read_yaml, validate
from recsys_mtl.data.feature_kinds import IdsFeature, NumberFeature, SequenceFeature, table_of
from recsys_mtl.data.reader import Worker
from recsys_mtl.data.schema import id_parts
from recsys_mtl.data.spec import Spec
from recsys_mtl.storage import Location, locate
from recsys_mtl.tasks import Task


@dataclass(frozen=True)
class PlanSource:
    """The facts of the data that a plan rests on."""

    spec: Spec
    tasks: tuple[Task, ...]
    lookups: dict[str, list[float]]
    """By table, the mean number of ids per row of each feature that reads it."""
    rows: int | None
    """Of the training split; unknown where there is only a specification."""
    steps: int | None

    @classmethod
    def of(cls, config: TrainRun, world: int) -> "PlanSource":
        """Read ``data.path``: a prepared data set, or a YAML file with the specification of one that is not there.

        Raises:
            ConfigError: neither of them.
        """
        place = locate(config.data.path)
        if place.is_local and place.local.is_file():
            spec = validate(Spec, read_yaml(place.local), where=f"{place}: ")
            return cls(spec, config.tasks.of(spec.tasks), lookups(spec, {}), None, None)
        program = WorkerProgram(config, Worker(0, world), torch.device("cpu"))
        steps = config.trainer.total_steps(program.reader.steps)
        means = values_per_row(place)
        return cls(program.spec, program.tasks, lookups(program.spec, means), program.reader.rows, steps)


def values_per_row(data: Location) -> dict[str, float]:
    """Return the mean number of values of each field in a row of the training split."""
    train = json.loads((data / "stats.json").read_text())["splits"]["train"]
    return {name: counts["values"] / max(train["rows"], 1) for name, counts in train["fields"].items()}


def lookups(spec: Spec, means: dict[str, float]) -> dict[str, list[float]]:
    """List the ids per row of every feature by the table that it reads.

    Where nobody has counted, lists are as long as they may be.
    """
    found: dict[str, list[float]] = {table: [] for table in spec.rows}
    for feature, part in id_parts(spec):
        longest = feature.max_length if isinstance(feature, SequenceFeature | IdsFeature) else 1
        found[table_of(part)].append(means.get(part.name, float(longest)))
    for feature in spec.features:
        if isinstance(feature, NumberFeature) and feature.boundaries is not None:
            found[feature.name].append(1.0)
    return found
