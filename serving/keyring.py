"""The keys of a service, from its settings and from a file that may change while it runs."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_mtl.config import ConfigError
from serving.keys import Key, read_keys, split_keys

if TYPE_CHECKING:
    from serving.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often a process looks whether the file has changed."""

Stamp = tuple[int, int, int]


class Keyring:
    """Every key that is valid at the moment."""

    def __init__(self, settings: "Settings") -> None:
        """Read the keys.

        Raises:
            ConfigError: the file is not there, or has something else in it.
        """
        self.settings, self.file = settings, settings.api_keys_file
        self.is_open = settings.api_keys is None and self.file is None
        """Whether no keys are asked for, which is another thing than that no key is valid any more."""
        self.seen = None if self.file is None else stamp(self.file)
        self.keys = () if self.is_open else self._read()
        self.due = time.monotonic() + LOOK_SECONDS

    def now(self) -> tuple[Key, ...]:
        """Return the keys of this moment."""
        if self.file is not None and (now := time.monotonic()) >= self.due:
            self.due = now + LOOK_SECONDS
            if (seen := stamp(self.file)) != self.seen:
                self.seen = seen
                self._read_again()
        return self.keys

    def _read_again(self) -> None:
        try:
            self.keys = self._read()
        except ConfigError as error:
            log.error("the keys stay as they were: %s", error)
        else:
            log.info("keys: %s", ", ".join(key.name for key in self.keys) or "none, every request is refused")

    def _read(self) -> tuple[Key, ...]:
        own = self.settings.api_keys
        lines = [] if own is None else split_keys(own)
        try:
            if self.file is not None:
                lines += self.file.read_text().splitlines()
            return read_keys(lines)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError([f"RECSYS_MTL_API_KEYS_FILE: {str(self.file)!r}: {reason}"]) from None


def check_keys(settings: "Settings") -> None:
    """Find what is wrong with the keys before a server is started, and warn of a service that anybody may use.

    Raises:
        ConfigError: the file is not there, has something else in it, or nothing.
    """
    keyring = Keyring(settings)
    if keyring.is_open:
        if settings.host not in {"localhost", "::1"} and not settings.host.startswith("127."):
            log.warning("no API keys are set: whoever reaches %s may ask for anything", settings.host)
    elif not keyring.keys:
        raise ConfigError(["RECSYS_MTL_API_KEYS: there is no key, so that every request would be refused"])


def stamp(file: Path) -> Stamp | None:
    """Say which writing of a file this is; a mounted Kubernetes Secret is a link that changes."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
