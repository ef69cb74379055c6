"""A run's shelf of checkpoints: which of them are complete, and which of them stay."""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from recsys_mtl.config import ConfigError
from recsys_mtl.storage import Location
from recsys_mtl.training.select import SelectConfig

logger = logging.getLogger(__name__)

MARK = "complete.json"
"""File that is written last: a directory without it is not a checkpoint."""


class Shelf:
    """A folder with a directory for each checkpoint. One process works on it."""

    def __init__(self, folder: Location, select: SelectConfig, *, keep: int, keep_best: int) -> None:
        self.folder, self.select, self.keep, self.keep_best = folder, select, keep, keep_best

    def place(self, step: int) -> Location:
        """Return the directory of a step's checkpoint, be there one or not."""
        return self.folder / f"step-{step:09d}"

    def clear(self, step: int) -> None:
        """Make room for a checkpoint: what lies there is of a run that was stopped while it wrote."""
        self._take_away(self.place(step))

    def mark(self, step: int, record: str) -> None:
        """Declare a checkpoint complete, and remove those that do not stay."""
        (self.place(step) / MARK).write_text(record)
        try:
            self._tidy(step)
        except ConfigError as error:
            logger.warning("old checkpoints could not be removed: %s", error)

    def drop(self, step: int) -> None:
        """Remove what there is of a checkpoint that could not be written, as far as that can be done."""
        with suppress(ConfigError):
            self._take_away(self.place(step))

    def newest(self, before: int | None = None) -> dict[str, Any] | None:
        """Return the record of the newest complete checkpoint, ``before`` a step if one is given."""
        return next((record for record in self._records() if before is None or record["step"] < before), None)

    def _records(self) -> Iterator[dict[str, Any]]:
        """Yield what the marks say, newest first."""
        for directory in reversed(self.folder.children("step-*")):
            mark = directory / MARK
            if mark.exists():
                yield json.loads(mark.read_text())

    def _tidy(self, step: int) -> None:
        """Remove all but the newest and the best up to a step: later ones are of a course that the run has left."""
        records = [record for record in self._records() if record["step"] <= step]
        values = [(record["step"], record["value"]) for record in records if record.get("value") is not None]
        stay = [record["step"] for record in records][: self.keep] + self.select.best(values, self.keep_best)
        kept = {str(self.place(step)) for step in stay}
        for directory in self.folder.children("step-*"):
            if str(directory) not in kept:
                self._take_away(directory)

    def _take_away(self, directory: Location) -> None:
        (directory / MARK).remove()  # first, so that a half-removed checkpoint is none
        directory.remove()
