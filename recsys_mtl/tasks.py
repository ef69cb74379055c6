"""Tasks: what the model predicts for an impression."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

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
    after: TaskName | None = None
    """Event that comes before this one in a funnel: a purchase after a click. Where that is known not to have happened,
    an unknown label of this one counts as 0. Unlike with ``space``, every impression counts."""
    negative_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of this event's negatives that was kept, at random, in the training rows; validation and test hold all of
    theirs. Predictions are corrected for it."""


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


def task_names(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Return the tasks' names, in their order."""
    return tuple(task.name for task in tasks)


def task_groups(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Return the names of the tasks' groups, sorted: their order does not depend on that of the tasks."""
    return tuple(sorted({task.group for task in tasks}))


def funnel(tasks: Sequence[Task], *, where: str = "tasks.{}.after") -> tuple[tuple[int, int], ...]:
    """Return the positions of every event that follows another and of that other, first events of a funnel first.

    Args:
        tasks: Tasks in any order.
        where: Path of the setting in messages, with a place for the later event's name.

    Raises:
        ConfigError: an event that follows what is no other event, itself by a detour, or one of another sample space.
    """
    before = {task.name: task.after for task in tasks if isinstance(task, BinaryTask) and task.after is not None}
    if problems := [where.format(name) + f": {problem}" for name, problem in _funnel_problems(tasks, before)]:
        raise ConfigError(problems)
    names = task_names(tasks)
    pairs = ((names.index(name), names.index(before[name])) for name in before)
    return tuple(sorted(pairs, key=lambda pair: (len(_events_before(names[pair[0]], before)), pair)))


def _funnel_problems(tasks: Sequence[Task], before: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    events = {task.name: task for task in tasks if isinstance(task, BinaryTask)}
    for name, earlier in before.items():
        if earlier not in events or earlier == name:
            yield name, f"{earlier!r} is not another binary task"
        elif name in _events_before(name, before):
            yield name, f"the funnel comes back to {name!r}"
        elif (space := events[earlier].space) is not None:
            yield name, f"{earlier!r} is learnt where {space!r} happened only; a funnel is about every impression"
        if events[name].space is not None:
            yield name, "space and after exclude each other: on some rows only, or on all of them"


def _events_before(name: str, before: Mapping[str, str]) -> list[str]:
    """List the events before one, the nearest first; in a circle, as many as there can be."""
    events: list[str] = []
    while name in before and len(events) < len(before):
        name = before[name]
        events.append(name)
    return events


class TaskSelection(Config):
    """Which of the data set's tasks a run learns, with what weights, groups and funnel."""

    include: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the tasks to learn, in this order; all of the data set's where it is not given."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Loss weights that replace the data set's own."""
    groups: dict[str, str] = {}
    """Groups that replace the data set's own."""
    after: dict[str, TaskName | None] = {}
    """Earlier events that replace the data set's own; ``null`` takes an event out of its funnel."""

    def of(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        """Return the selected tasks with this run's settings.

        The data set's own funnel holds as far as both of its events are selected.

        Raises:
            ConfigError: a name that the data set does not have, or a selection that contradicts itself.
        """
        known = {task.name: task for task in tasks}
        names = self.include if self.include is not None else tuple(known)
        if problems := list(self._problems(known, names)):
            raise ConfigError(problems)
        chosen = tuple(self._with_settings(known[name], names) for name in names)
        funnel(chosen, where="tasks.after.{}")
        return chosen

    def _with_settings(self, task: Task, names: Collection[str]) -> Task:
        settings: dict[str, Any] = {
            "weight": self.weights.get(task.name, task.weight),
            "group": self.groups.get(task.name, task.group),
        }
        if isinstance(task, BinaryTask):
            own = task.after if task.after in names else None
            settings["after"] = self.after.get(task.name, own)
        return task.model_copy(update=settings)

    def _problems(self, known: Mapping[str, Task], names: tuple[str, ...]) -> Iterator[str]:
        for name, count in Counter(names).items():
            if name not in known:
                yield f"tasks.include: no task {name!r} in the data set; it has {', '.join(known)}"
            elif count > 1:
                yield f"tasks.include: {name!r} is named {count} times"
            elif (space := known[name].space) is not None and space not in names:
                yield f"tasks.include: {name!r} needs {space!r}, the task of its sample space"
        for field in ("weights", "groups", "after"):
            for name in getattr(self, field):
                if name not in names:
                    yield f"tasks.{field}.{name}: not a task of this run, which learns {', '.join(names)}"
                elif field == "after" and isinstance(known.get(name), RegressionTask):
                    yield f"tasks.after.{name}: only an event can follow another"
