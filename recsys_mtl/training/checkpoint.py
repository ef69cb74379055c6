"""Checkpoints: all that a run needs to go on as if it had never stopped, on any number of workers."""

import json
import logging
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.distributed as dist
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.storage import Location
from recsys_mtl.storage.stores import meaning
from recsys_mtl.training.select import SelectConfig
from recsys_mtl.training.shelf import Shelf
from recsys_mtl.training.staging import staged
from recsys_mtl.training.tensor_files import TensorReader, TensorWriter
from recsys_mtl.training.together import Background, on_first

logger = logging.getLogger(__name__)


class CheckpointConfig(Config):
    """How often a run is saved, and where."""

    every_steps: PositiveInt | None = None
    """Steps between checkpoints; a run without any starts from the beginning after a failure."""
    keep: PositiveInt = 2
    """Newest checkpoints that are kept."""
    keep_best: NonNegativeInt = 0
    """Checkpoints of the best evaluations by ``trainer.select`` that are kept beside them; an evaluation that is among
    the best so far is saved at once."""
    asynchronous: bool = True
    """Whether training goes on while a checkpoint is written, from a copy in main memory."""
    path: str = Field(default="checkpoints", min_length=1)
    """Folder of all runs' checkpoints, which every worker can reach, or a place in an object store (``s3://…``); each
    run has a folder of its own in it."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "CheckpointConfig":
        if self.keep_best and self.every_steps is None:
            raise ValueError("keep_best needs every_steps: a run without it has no checkpoints")
        return self


class DamagedCheckpointError(ConfigError):
    """A checkpoint that is complete by its mark and cannot be read."""


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint."""

    directory: Location
    step: int
    progress: dict[str, Any]
    """What is not a tensor: the same for all workers."""


class Checkpoints:
    """The checkpoints of one run in a folder.

    Tensors lie in the format of torch.distributed.checkpoint, each shard once, whoever holds it: another number of
    workers reads them as well. A checkpoint appears at once and whole, by the mark that is written last.
    """

    def __init__(
        self,
        directory: Location,
        config: CheckpointConfig,
        *,
        settings: dict[str, Any],
        select: SelectConfig = SelectConfig(),  # noqa: B008  frozen
        timeout_s: float = 600,
    ) -> None:
        """``settings`` are those that a run cannot change while it goes on. A collective."""
        self.directory, self.settings = directory, settings
        self.shelf = Shelf(directory, select, keep=config.keep, keep_best=config.keep_best)
        self.background = Background(timeout_s) if config.asynchronous else None
        self._under_way: Future[bool] | None = None

    def save(
        self,
        step: int,
        tensors: dict[str, Any],
        progress: dict[str, Any],
        *,
        constant: dict[str, Any] | None = None,
        value: float | None = None,
    ) -> None:
        """Write a checkpoint, or begin to; `finish` tells how it went. A collective.

        Args:
            constant: more tensors, which nobody changes any more: they need not be copied.
            value: what an evaluation at this step gave, by the metric that selects.
        """
        assert self._under_way is None, "the save before this one is finished first"
        # as text at once: what it tells of goes on changing
        record = json.dumps(self._record(step, value) | {"progress": progress})
        if self.background is None:
            self._under_way = Future()
            self._under_way.set_result(self._write(step, tensors | (constant or {}), record, None))
        else:
            copies = staged(tensors) | (constant or {})
            self._under_way = self.background.start(partial(self._write, step, copies, record))

    def finish(self) -> bool:
        """Wait for the save under way, if there is one; tell whether it worked. A collective.

        Training goes on if it did not, as when the disk is full: the checkpoint before that one stays.
        """
        under_way, self._under_way = self._under_way, None
        return under_way is None or under_way.result()

    def _record(self, step: int, value: float | None) -> dict[str, Any]:
        return {"step": step, "value": value, "workers": _workers(), "settings": self.settings}

    def _write(self, step: int, tensors: dict[str, Any], record: str, group: dist.ProcessGroup | None) -> bool:
        try:
            on_first(lambda: self.shelf.clear(step), group)
            writer = TensorWriter(self.shelf.place(step))
            save(tensors, storage_writer=writer, process_group=group, no_dist=not dist.is_initialized())
            on_first(lambda: self.shelf.mark(step, record), group)
        except (CheckpointException, ConfigError) as error:
            place = self.shelf.place(step)
            logger.warning("checkpoint of step %d could not be written to %s: %s", step, place, _reason(error))
            on_first(lambda: self.shelf.drop(step), group)
            return False
        return True

    def latest(self, before: int | None = None) -> Saved | None:
        """Find the newest complete checkpoint, ``before`` a step if one is given, on all workers. A collective.

        Raises:
            ConfigError: it belongs to a run with other settings, or the place cannot be reached.
        """
        record = on_first(lambda: self.shelf.newest(before))
        if record is None:
            return None
        if changes := list(_changes(record["settings"], self.settings)):
            raise ConfigError(changes)
        return Saved(self.shelf.place(record["step"]), record["step"], record["progress"])

    def load(self, saved: Saved, tensors: dict[str, Any]) -> None:
        """Fill ``tensors``, whose names and whole shapes must be those that were saved. A collective.

        Raises:
            DamagedCheckpointError: it is damaged, or of another model; some of the tensors may have been filled.
            ConfigError: the place cannot be reached.
        """
        try:
            load(tensors, storage_reader=TensorReader(saved.directory), no_dist=not dist.is_initialized())
        except CheckpointException as error:
            self.latest()  # is the place there at all?
            advice = "remove it, and the run goes on from the one before or from its beginning"
            raise DamagedCheckpointError([f"{saved.directory}: {_reason(error)}; {advice}"]) from None


def _reason(error: CheckpointException | ConfigError) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    causes = [cause for cause, _ in error.failures.values() if isinstance(cause, Exception)]
    return "; ".join(sorted({meaning(cause) for cause in causes}))


def _workers() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _changes(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """List the settings that differ, each with both values."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        here, before, now = f"{path}{key}", old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _changes(before, now, f"{here}.")
        elif before != now:
            found.append(f"{here}: was {before!r} when the run began, is {now!r} now; use another run_name")
    return found
