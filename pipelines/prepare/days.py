"""Writing prepared days: each one's encoding grows from that of the day before."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from pipelines.prepare.write import write
from recsys_mtl.config import ConfigError
from recsys_mtl.data.day import RawDay, day_facts, write_day
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.raw import RawData
from recsys_mtl.storage import Location, Place, absolute, locate

BASE = "base"
"""Directory of what lies before the first day."""


@dataclass(frozen=True)
class RawDays:
    """A data set to begin with, and the days that follow it."""

    base: RawData
    days: tuple[RawDay, ...]


def write_days(read: Callable[[], RawDays], out: Place, console: Console, *, hold_out: float = 0.0) -> None:
    """Read a base and days, and put them at ``out``: ``base`` and one directory a day, named ``YYYY-MM-DD``.

    ``hold_out`` is the share of each day's groups that are not for learning.

    Raises:
        ConfigError: what is read has a problem, or something else stands where a directory is to go.
    """
    raw = read()
    folder = locate(out)
    before = folder / BASE
    write(lambda: raw.base, before, console)
    for day in raw.days:
        before = grow(day, folder / day.day.isoformat(), before, console, hold_out=hold_out)


def grow(raw: RawDay, out: Place, base: Place, console: Console, *, hold_out: float = 0.0) -> Location:
    """Put a day at ``out``, its encoding grown from the data set at ``base``; say what is new in it.

    Raises:
        ConfigError: ``base`` is no data set of this schema, or ``out`` is something else than a data set.
    """
    place = locate(out)
    if absolute(str(out)) == absolute(str(base)):
        raise ConfigError([f"{out}: a day cannot take the place of what it grows from"])
    started = time.perf_counter()
    before = Encoder.load(base)
    spec = write_day(raw, place, base=before, hold_out=hold_out)
    new = sum(rows - before.spec.rows[table] for table, rows in spec.rows.items())
    seconds = time.perf_counter() - started
    found = day_facts(place)
    held = f", {found.held_out:,} of them held out" if hold_out else ""
    facts = f"{found.rows:,} rows{held}, {new:,} new values, fingerprint {spec.fingerprint}"
    console.print(f"prepared {out} in {seconds:.1f} s: {facts}", highlight=False, soft_wrap=True)
    return place
