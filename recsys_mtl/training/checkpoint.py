"""Checkpoints: all that a run needs to go on as if it had never stopped, on any number of workers."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from pydantic import Field, PositiveInt
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from recsys_mtl.config import Config, ConfigError

logger = logging.getLogger(__name__)

T = TypeVar("T")

MARK = "complete.json"
"""File that is written last: a directory without it is not a checkpoint."""


class CheckpointConfig(Config):
    """How often a run is saved, and where."""

    every_steps: PositiveInt | None = None
    """Steps between checkpoints; a run without any starts from the beginning after a failure."""
    keep: PositiveInt = 2
    """Newest checkpoints that are kept."""
    path: str = Field(default="checkpoints", min_length=1)
    """Folder of all runs' checkpoints, which every worker can reach; each run has a folder of its own in it."""


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint."""

    directory: Path
    step: int
    progress: dict[str, Any]
    """What is not a tensor: the same for all workers."""


class Checkpoints:
    """The checkpoints of one run in a folder.

    Tensors lie in the format of torch.distributed.checkpoint, each shard once, whoever holds it: another number of
    workers reads them as well. A checkpoint appears at once and whole, by the mark that is written last.
    """

    def __init__(self, directory: Path, *, keep: int, settings: dict[str, Any]) -> None:
        """``settings`` are those that a run cannot change while it goes on."""
        self.directory, self.keep, self.settings = directory, keep, settings

    def save(self, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> bool:
        """Write a checkpoint; tell whether that worked. A collective.

        Training goes on if it did not, as when the disk is full: the checkpoint before this one stays.
        """
        target = self.directory / f"step-{step:09d}"
        try:
            on_first(lambda: _clear(target))
            save(tensors, checkpoint_id=target, no_dist=not dist.is_initialized())
            on_first(lambda: self._finish(target, step, progress))
        except (CheckpointException, OSError) as error:
            logger.warning("checkpoint of step %d could not be written: %s", step, _reason(error))
            on_first(lambda: _remove(target))
            return False
        return True

    def latest(self) -> Saved | None:
        """Find the newest complete checkpoint, the same on all workers. A collective.

        Raises:
            ConfigError: it belongs to a run with other settings.
        """
        found = on_first(self._newest)
        if found is None:
            return None
        directory, record = found
        if changes := list(_changes(record["settings"], self.settings)):
            raise ConfigError(changes)
        return Saved(directory, record["step"], record["progress"])

    def load(self, saved: Saved, tensors: dict[str, Any]) -> None:
        """Fill ``tensors``, whose names and whole shapes must be those that were saved. A collective.

        Raises:
            ConfigError: it is damaged, or of another model.
        """
        try:
            load(tensors, checkpoint_id=saved.directory, no_dist=not dist.is_initialized())
        except CheckpointException as error:
            raise ConfigError([f"{saved.directory}: {_reason(error)}"]) from None

    def _newest(self) -> tuple[Path, dict[str, Any]] | None:
        for directory in sorted(self.directory.glob("step-*"), reverse=True):
            mark = directory / MARK
            if mark.exists():
                return directory, json.loads(mark.read_text(encoding="utf-8"))
        return None

    def _finish(self, target: Path, step: int, progress: dict[str, Any]) -> None:
        record = {"step": step, "workers": _workers(), "settings": self.settings, "progress": progress}
        draft = target / f"{MARK}.draft"
        with draft.open("w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target / MARK)
        complete = sorted(mark.parent for mark in self.directory.glob(f"step-*/{MARK}"))
        for old in complete[: -self.keep]:
            _remove(old)


def on_first(work: Callable[[], T]) -> T:
    """Do something on the first worker alone; return its result, or raise its error, on all. A collective."""
    box: list[Any] = [None, None]
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            box[0] = work()
        except Exception as error:
            box[1] = error
    if dist.is_initialized():
        dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


def _reason(error: CheckpointException | OSError) -> str:
    if isinstance(error, OSError):
        return str(error)
    return "; ".join(sorted({str(cause) for cause, _ in error.failures.values()}))


def _workers() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _clear(directory: Path) -> None:
    """Make room for a checkpoint: what lies there is from a run that was stopped while it wrote."""
    _remove(directory)
    directory.mkdir(parents=True)


def _remove(directory: Path) -> None:
    with suppress(OSError):
        (directory / MARK).unlink()  # first, so that a half-removed checkpoint is none
    shutil.rmtree(directory, ignore_errors=True)


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
