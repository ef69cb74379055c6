"""Models that are held against each other on the same rows: what they are called, and how they score."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pipelines.grown import grown
from recsys_mtl.bundle import Bundle
from recsys_mtl.config import ConfigError
from recsys_mtl.data.batch import Batch, BatchLayout
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.reader import EvalReader, Worker
from recsys_mtl.data.shards import RowGroup
from recsys_mtl.metrics.paired import METRICS
from recsys_mtl.metrics.user_metrics import UserMetric
from recsys_mtl.objectives.losses import LabelRules
from recsys_mtl.registry import BundlePlace, fetch
from recsys_mtl.registry.entries import BUNDLE
from recsys_mtl.storage import Place, locate
from recsys_mtl.tracking.lookup import find_run
from recsys_mtl.training.evaluate import scores

BATCH_SIZE = 8192

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Contender:
    """A model as the user named it."""

    name: str
    place: BundlePlace
    bundle: Bundle

    @classmethod
    def load(cls, name: str, uri: str) -> "Contender":
        """Find a model by its run's id or name, or by any address of a bundle.

        Raises:
            ConfigError: there is no such model.
        """
        with tempfile.TemporaryDirectory() as directory:
            fetched = fetch(address(name, uri), uri, into=Path(directory))
            return cls(name, fetched.place, Bundle.load(fetched.path))

    @property
    def label(self) -> str:
        """Name for a title: an id is followed by the run's name."""
        return f"{self.name} ({self.place.name})" if self.name == self.place.run_id else self.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of its tasks."""
        return self.bundle.tasks


def address(name: str, uri: str) -> str:
    """Turn what a person calls a model into an address of its bundle."""
    if re.match(r"(models|runs):", name) or (locate(name) / "model.yaml").exists():
        return name
    try:
        return f"runs:/{find_run(uri, name)}/{BUNDLE}"
    except ConfigError as error:
        hint = "a model is a run's id or name, models:/NAME@ALIAS, models:/NAME/VERSION, or a bundle's directory"
        raise ConfigError([*error.problems, hint]) from None


def load_all(names: Sequence[str], uri: str) -> list[Contender]:
    """Load every model.

    Raises:
        ConfigError: all problems of all names.
    """
    found: list[Contender] = []
    problems: list[str] = []
    for name in names:
        try:
            found.append(Contender.load(name, uri))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return found


def data_of(baseline: Contender, given: Place | None) -> Place:
    """Return the data set to compare on: the given one, or the one that the baseline was trained on.

    Raises:
        ConfigError: it is not there.
    """
    logged = baseline.bundle.manifest.run.get("data", {}).get("path")
    if given is None and logged is None:
        raise ConfigError([f"--data: {baseline.label} does not say what it was trained on: name a prepared data set"])
    data = given or str(logged)
    if given is None and not locate(data).exists():
        raise ConfigError([f"--data: {data}, which {baseline.label} was trained on, is not there: name a copy of it"])
    return data


def readers_of(contenders: Sequence[Contender], data: Place) -> list[Contender]:
    """Let every model read a data set, which may have grown from its own.

    Raises:
        ConfigError: the data set is prepared otherwise than that of a model.
    """
    encoder, found, problems = Encoder.load(data), list[Contender](), []
    for contender in contenders:
        try:
            found.append(replace(contender, bundle=grown(contender.bundle, encoder)))
        except ConfigError as error:
            here = f"--data: {data} has fingerprint {encoder.spec.fingerprint}, {contender.label}"
            problems += [f"{here} {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return found


@dataclass(frozen=True)
class Scored:
    """The same rows as every contender scores them."""

    users_B: NDArray[np.int64]
    """Numbered from 0."""
    labels_BT: Matrix
    """Of the baseline's tasks, as its rules have them."""
    scores: tuple[Matrix, ...]
    """Of each contender and each of its tasks."""
    contenders: Sequence[Contender]

    @property
    def num_users(self) -> int:
        """Users that have a row."""
        return int(self.users_B.max()) + 1

    def common_tasks(self, other: int) -> list[str]:
        """Tasks that a contender shares with the baseline, in the baseline's order."""
        return [task for task in self.contenders[0].tasks if task in self.contenders[other].tasks]

    def kind(self, task: str) -> str:
        """Tell an event from an amount."""
        baseline = self.contenders[0]
        return baseline.bundle.manifest.tasks[baseline.tasks.index(task)].kind

    def metrics(self, contender: int, task: str, wanted: Sequence[str]) -> Iterator[tuple[str, UserMetric]]:
        """Yield those of the wanted metrics that the task has."""
        for name in wanted:
            if METRICS[name].kind == self.kind(task):
                yield name, self.metric(contender, task, METRICS[name])

    def metric(self, contender: int, task: str, kind: type[UserMetric]) -> UserMetric:
        """Make a metric of a contender on the rows that have the task's label."""
        labels_B = self.labels_BT[:, self.contenders[0].tasks.index(task)]
        scores_B = self.scores[contender][:, self.contenders[contender].tasks.index(task)]
        known_B = ~np.isnan(labels_B)
        return kind(self.users_B[known_B], scores_B[known_B], labels_B[known_B])


def score(contenders: Sequence[Contender], groups: list[RowGroup], console: Console) -> Scored:
    """Let every contender score the rows, batch by batch.

    Raises:
        ConfigError: a file that cannot be read, or a model whose scores are not numbers.
    """
    baseline = contenders[0].bundle
    layout = BatchLayout.of(baseline.encoder.spec, baseline.tasks)
    reader = EvalReader(groups, layout, batch_size=BATCH_SIZE, worker=Worker())
    batches = track(reader, "scoring", total=reader.steps, console=console, disable=not console.is_terminal)
    rules = LabelRules(baseline.manifest.tasks)
    parts = [
        (batch.groups_B, rules(batch.labels_BT), *(_scores(contender.bundle, batch) for contender in contenders))
        for batch in batches
    ]
    groups_B, labels_BT, *scored = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    if lost := [c.label for c, matrix in zip(contenders, scored, strict=True) if np.isnan(matrix).any()]:
        raise ConfigError(f"{label}: some of its scores are not numbers" for label in lost)
    users_B = np.unique(groups_B, return_inverse=True)[1]
    return Scored(users_B, labels_BT, tuple(scored), contenders)


def _scores(bundle: Bundle, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return scores(bundle.model(batch), bundle.manifest.tasks, bundle.calibration)
