"""What is run: models and their settings from ``models.yaml``, expanded to single training runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from benchmarks.results import digest
from pipelines.run import TrainRun
from recsys_mtl.config import Config, ConfigError, load, read_yaml, validate
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.spec import Spec
from recsys_mtl.storage import Place, locate
from recsys_mtl.tasks import RegressionTask, Task

MODELS = Path(__file__).with_name("models.yaml")
WITHOUT_INFLUENCE = ("tracking", "registry", "run_name", "cluster")
"""Parts of a run that do not change what it learns."""


class Entry(Config):
    """One model: what stands on the command line of ``recsys-mtl train`` for it."""

    sources: tuple[str, ...] = ()
    """YAML files, from the root of the repository."""
    overrides: tuple[str, ...] = ()
    """``path.to.field=value``: above all what brings the model to the common size."""
    per_task: bool = False
    """One model for each task instead of one for all."""
    like: str | None = None
    """A model whose settings and learning rate are taken over, as an ablation takes those of the whole model."""


class Plan(Config):
    """``models.yaml``."""

    dense_parameters: PositiveInt
    """Common size of the dense parts."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of that size by which a model may be off without being marked."""
    rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.001, 0.002)
    """Dense learning rates that every model tries."""
    tasks: tuple[str, ...]
    """Tasks that every model learns."""
    common: Entry = Entry()
    """What goes before every model's own settings."""
    models: dict[str, Entry]
    quick: tuple[str, ...]
    """The models of ``--quick``."""
    ablations: dict[str, Entry] = {}

    def sources(self, entry: Entry) -> tuple[str, ...]:
        """Return a model's command line: what is common, what it takes over, its own; files before overrides."""
        parts = [self.common, *([self.models[entry.like]] if entry.like is not None else []), entry]
        files = [source for part in parts for source in part.sources]
        return (*files, *(override for part in parts for override in part.overrides))

    @model_validator(mode="after")
    def _names_hold(self) -> "Plan":
        wrong = [f"quick: no model {name!r}" for name in self.quick if name not in self.models]
        whole = {name for name, entry in self.models.items() if not entry.per_task}
        wrong += [f"ablations.{name}: a model has this name" for name in self.ablations if name in self.models]
        for part, entries in {"models": self.models, "ablations": self.ablations}.items():
            likes = ((name, entry.like) for name, entry in entries.items() if entry.like is not None)
            wrong += [
                f"{part}.{name}.like: {like!r} is no model for all tasks" for name, like in likes if like not in whole
            ]
        if wrong:
            raise ConfigError(wrong)
        return self


@dataclass(frozen=True)
class Variant:
    """One model to be trained, whatever its seed and learning rate: a model of the plan, or its part for one task."""

    model: str
    task: str | None
    sources: tuple[str, ...]
    tasks: tuple[str, ...]
    """What settles which tasks are learnt; the last word on the command line."""
    like: str | None = None

    @property
    def name(self) -> str:
        """Name of the model, with the task if it learns but one."""
        return self.model if self.task is None else f"{self.model} {self.task}"


@dataclass(frozen=True)
class Job:
    """One training run, resolved."""

    variant: Variant
    seed: int
    rate: float
    sources: tuple[str, ...]
    """What stands on its command line, but for where it is recorded."""
    run: TrainRun
    settings: dict[str, Any]
    """All that decides about its outcome: equal settings give an equal result."""

    @property
    def name(self) -> str:
        """How the run is called in MLflow and among the results."""
        return f"{self.variant.name}-lr{self.rate:g}-seed{self.seed}"


@dataclass(frozen=True)
class Data:
    """The prepared data set, as far as a plan needs to know it."""

    path: Place
    spec: Spec
    stats: dict[str, Any]

    @classmethod
    def load(cls, path: Place) -> "Data":
        """Read what describes a prepared data set.

        Raises:
            ConfigError: it is none.
        """
        spec = Encoder.load(path).spec
        return cls(path, spec, json.loads((locate(path) / "stats.json").read_text()))

    def task(self, name: str) -> Task:
        """Return a task by its name.

        Raises:
            ConfigError: the data set does not have it.
        """
        found = {task.name: task for task in self.spec.tasks}
        if name not in found:
            raise ConfigError([f"--tasks: no task {name!r} in the data set; it has {', '.join(found)}"])
        return found[name]

    def count(self, split: str, task: str, what: str) -> int | None:
        """Return the number of ``known`` labels or of ``positives`` of a task; None of what it does not have."""
        found: int | None = self.stats["splits"][split]["tasks"][task].get(what)
        return found


def load_plan(path: Path = MODELS) -> Plan:
    """Read the plan.

    Raises:
        ConfigError: it is not one.
    """
    return validate(Plan, read_yaml(path), where=f"{path}: ")


def choose(entries: dict[str, Entry], names: Sequence[str], where: str) -> dict[str, Entry]:
    """Return the named models in the plan's order.

    Raises:
        ConfigError: a name that the plan does not have.
    """
    if unknown := [name for name in names if name not in entries]:
        raise ConfigError(f"{where}: no model {name!r}; there are {', '.join(entries)}" for name in unknown)
    return {name: entry for name, entry in entries.items() if name in names}


def variants(plan: Plan, entries: dict[str, Entry], data: Data, tasks: Sequence[str]) -> list[Variant]:
    """Expand models to what is trained: one model for all tasks, or one for each."""
    found = []
    for name, entry in entries.items():
        sources = plan.sources(entry)
        everything = (f"tasks.include={json.dumps(list(tasks))}",)
        parts = [(task, alone(data.task(task))) for task in tasks] if entry.per_task else [(None, everything)]
        found += [Variant(name, task, sources, own, entry.like) for task, own in parts]
    return found


def alone(task: Task) -> tuple[str, ...]:
    """Settings of a model that learns one task: its weights are kept by that task's own metric."""
    select = f"trainer.select={{metric: {headline(task)}, tasks: null, mode: max}}"
    return f"tasks.include=[{task.name}]", select


def headline(task: Task) -> str:
    """Name the metric by which models are compared in a task; larger is better."""
    return "xauc" if isinstance(task, RegressionTask) else "auc"


def job(variant: Variant, data: Data, *, seed: int, rate: float | None, extra: Sequence[str] = ()) -> Job:
    """Resolve one run; without a ``rate`` it has the one of its own settings.

    Raises:
        ConfigError: settings that contradict each other or the schema of a run.
    """
    sources = (*variant.sources, *extra, *variant.tasks, f"data.path={data.path}", f"seed={seed}")
    sources += () if rate is None else (f"optim.dense.lr={rate}",)
    run = load(TrainRun, sources)
    tree = run.model_dump(mode="json", exclude=set(WITHOUT_INFLUENCE))
    tree["data"]["path"] = digest(data.stats)  # what it holds, wherever it lies
    return Job(variant, seed, run.optim.dense.lr, sources, run, tree)
