"""How a run ended, on disk, while the tracking server cannot be told."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from recsys_mtl.config import Config, ConfigError, validate
from recsys_mtl.tracking.store import TrackingConfig

Status = Literal["FINISHED", "FAILED", "KILLED"]

FILE = "ending.json"


class Ending(Config):
    """All that is left to tell the server of a run, beside the files of the same folder."""

    run_id: str
    status: Status
    tracking: TrackingConfig
    """With absolute paths."""
    result: dict[str, Any] | None = None
    """What a finished run has to register and to print; nothing where that has been done, or there is nothing."""

    @property
    def folder(self) -> Path:
        """Where the run's metrics and files wait."""
        return self.tracking.folder(self.run_id)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read it; None if the run did not end, or the server knows.

        Raises:
            ConfigError: the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return validate(cls, json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ConfigError([f"{path}: {error}"]) from None

    def save(self) -> str:
        """Write it; return what to tell a person."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{FILE}.draft"
        draft.touch(mode=0o600)  # the address may hold a password
        draft.write_text(json.dumps(self.model_dump(mode="python")), encoding="utf-8")
        draft.replace(self.folder / FILE)
        waiting = (
            f"run {self.run_id} is over, but the tracking server does not answer: everything waits in {self.folder}"
        )
        return f"{waiting}; when the server is back: recsys-mtl deliver {self.folder}"

    def drop(self) -> None:
        """Forget it: the server knows, or the run goes on."""
        (self.folder / FILE).unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
