"""Who gets which model: the challenger's share of the users, and shadow scoring, both changeable while serving."""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from recsys_mtl.data.encode import hash64
from recsys_mtl.data.values import text_of
from recsys_mtl.storage import locate
from serving.errors import RequestError
from serving.schemas import RequestPart
from serving.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often a process looks whether another one has changed the traffic."""
SALT = "traffic "
"""Apart from the hashes by which ids choose rows of embedding tables."""
PARTS = 10_000
"""The share is kept to a hundredth of a percent."""


class Traffic(RequestPart):
    """What goes to the challenger."""

    challenger_percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    """Share of the users whom it answers. A user stays with a model as long as the share does, and those whom a
    smaller share had sent to the challenger stay there when it grows."""
    shadow: bool
    """Whether it scores, unseen, what the champion answers."""


class Switch:
    """The traffic as it was last set, by whichever process of the service, in this run or an earlier one.

    It is kept in a file of the cache directory, with the settings that it was put over: once those change, they count.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = Traffic(challenger_percent=settings.challenger_percent, shadow=settings.shadow)
        self.has_challenger = settings.challenger is not None
        addresses = hashlib.sha256(json.dumps([settings.tracking_uri, settings.models]).encode()).hexdigest()[:32]
        self.file = settings.cache_dir / "traffic" / f"{addresses}.json"
        self.traffic, self.seen, self.due = self.settings, None, 0.0
        self.seen: tuple[int, int] | None

    def now(self) -> Traffic:
        """Return the traffic of this moment."""
        if (now := time.monotonic()) >= self.due:
            self.due = now + LOOK_SECONDS
            if (seen := _stamp(self.file)) != self.seen:
                self.traffic, self.seen = self._read(), seen
        return self.traffic

    def set(self, traffic: Traffic) -> None:
        """Change it, here at once and in the other processes within `LOOK_SECONDS`.

        Raises:
            RequestError: there is no challenger.
            ConfigError: the file cannot be written.
        """
        if not self.has_challenger and traffic != self.settings:
            raise RequestError([((), "this service has no challenger; set RECSYS_MTL_CHALLENGER and start it again")])
        tree = {"traffic": traffic.model_dump(), "instead_of": self.settings.model_dump()}
        locate(self.file).write_text(json.dumps(tree))
        self.due = 0.0
        log.info("traffic: %g %% to the challenger, shadow %s", traffic.challenger_percent, traffic.shadow)

    def _read(self) -> Traffic:
        try:
            tree = json.loads(self.file.read_bytes())
            if tree["instead_of"] == self.settings.model_dump():
                return Traffic.model_validate(tree["traffic"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            log.warning("%s is left out: %s", self.file, error)
        return self.settings


def is_challenged(identity: Any, request_id: str, percent: float) -> bool:
    """Say whether the challenger answers this user; a request that names none counts as a user of its own."""
    text = text_of(identity) if isinstance(identity, str | int | float) else None
    part = hash64(f"{SALT}{request_id if text is None else text}") % PARTS
    return part < percent * PARTS / 100


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino
