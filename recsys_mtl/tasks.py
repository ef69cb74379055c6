"""Tasks: what the model predicts for an impression."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from recsys_mtl.config import Config, ConfigError

TaskName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class TaskBase(Config):
    """What every task has, whatever it predicts."""

    name: TaskName
    """How metrics, scores and fusion formulas call this objective."""
    label: str | None = None
    """Source column of the label; the task's own name where it is not given. A null cell is an unknown label."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor of this task's loss."""
    group: str = "all"
    """Tasks of one group share experts in hierarchical models (HoME)."""
    space: TaskName | None = None
    """Binary task whose positives are this task's sample space: other rows enter neither loss nor metric."""

    @property
    def label_column(self) -> str:
        """Source column that holds the label."""
        return self.label or self.name


class BinaryTask(TaskBase):
    """A yes-or-no event, predicted as a probability."""

    kind: Literal["binary"] = "binary"
    value: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Weight of the event in the default score formula; 0 leaves it out, as is right for a complaint."""


class RegressionTask(TaskBase):
    """An amount, such as watch time, predicted in its natural unit."""

    kind: Literal["regression"] = "regression"
    transform: Literal["identity", "log1p"] = "log1p"
    """Scale on which the model is trained; scores are turned back into the natural unit."""
    loss: Literal["mse", "huber"] = "huber"
    """Loss on the transformed scale; Huber's threshold is 1."""
    unit: str = ""
    """Unit of the label, printed beside metrics: ``s`` for seconds."""
    upper: PositiveFloat | None = None
    """Labels and predictions are clipped to this amount, in the natural unit."""


Task = Annotated[BinaryTask | RegressionTask, Field(discriminator="kind")]


class TaskSelection(Config):
    """Which of the data set's tasks a run learns, and with what weights."""

    include: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the tasks to learn, in this order; all of the data set's where it is not given."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Loss weights that replace the data set's own."""

    def of(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        """Return the selected tasks with this run's weights.

        Raises:
            ConfigError: a name that the data set does not have, or a selection that contradicts itself.
        """
        known = {task.name: task for task in tasks}
        names = self.include if self.include is not None else tuple(known)
        if problems := list(self._problems(known, names)):
            raise ConfigError(problems)
        chosen = (known[name] for name in names)
        return tuple(task.model_copy(update={"weight": self.weights.get(task.name, task.weight)}) for task in chosen)

    def _problems(self, known: Mapping[str, Task], names: tuple[str, ...]) -> Iterator[str]:
        for name, count in Counter(names).items():
            if name not in known:
                yield f"tasks.include: no task {name!r} in the data set; it has {', '.join(known)}"
            elif count > 1:
                yield f"tasks.include: {name!r} is named {count} times"
            elif (space := known[name].space) is not None and space not in names:
                yield f"tasks.include: {name!r} needs {space!r}, the task of its sample space"
        for name in self.weights:
            if name not in names:
                yield f"tasks.weights.{name}: not a task of this run, which learns {', '.join(names)}"
