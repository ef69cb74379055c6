"""Days that nobody has prepared yet: which ones have rows, and how they become data sets."""

import glob
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console

from pipelines.daily_config import DAY, PrepareConfig
from pipelines.daily_plan import dated
from pipelines.prepare.days import BASE, grow
from pipelines.prepare.table import prepare_day
from recsys_mtl.config import ConfigError
from recsys_mtl.storage import Place, locate

ANY_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"


def coming_days(config: PrepareConfig, until: date | None) -> list[date]:
    """List the days whose files are there, and whole as far as can be told."""
    found = {
        day
        for pattern in config.source
        for path in glob.glob(pattern.replace(DAY, ANY_DAY), recursive=True)  # noqa: PTH207  any root
        for day in _days_in(path, pattern)
    }
    return sorted(day for day in found if (until is None or day <= until) and _is_ready(config, day))


def _days_in(path: str, pattern: str) -> Iterator[date]:
    """Yield the day that makes a path of the pattern, if it is one that the calendar has."""
    for text in re.findall(r"\d{4}-\d\d-\d\d", path):
        with suppress(ValueError):
            if fnmatch(path, pattern.replace(DAY, text)):
                yield date.fromisoformat(text)


def _is_ready(config: PrepareConfig, day: date) -> bool:
    return config.ready is None or Path(config.ready.replace(DAY, str(day))).exists()


def sources_of(config: PrepareConfig, day: date) -> list[str]:
    """Return the patterns of a day's files."""
    return [pattern.replace(DAY, str(day)) for pattern in config.source]


def fingerprint(config: PrepareConfig, day: date) -> str:
    """Hash what a day is made of: the schema, and the names, sizes and times of its files."""
    digest = hashlib.sha256(Path(config.schema_file).read_bytes())
    for pattern in sources_of(config, day):
        for path in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207  any root
            facts = Path(path).stat()
            digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def prepare(config: PrepareConfig, directory: Place, day: date, console: Console) -> None:
    """Prepare a day, grown from the newest that is there.

    Raises:
        ConfigError: nothing to grow from, or everything that is wrong with the rows.
    """
    earlier = [path for one, path in dated(directory).items() if one < day]
    base = locate(directory) / BASE
    if not earlier and not (base / "spec.yaml").exists():
        raise ConfigError([f"prepare: {day} has nothing to grow from: there is neither {base} nor a day before"])
    raw = prepare_day(Path(config.schema_file), sources_of(config, day), day)
    grow(raw, locate(directory) / str(day), earlier[-1] if earlier else base, console, hold_out=config.hold_out)
