"""A prepared day: what a model of the days before is tested on first, and then learns.

A day is a prepared data set whose three splits hold the same rows: shuffled for training, by group for the other two.
Until a model has learnt them, they are its held-out data. Its encoding continues that of the day before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa

from recsys_mtl.config import ConfigError
from recsys_mtl.data.dataset import STATS, Progress, refuse_foreign, replaced, write_splits, write_stats
from recsys_mtl.data.growth import Fitted
from recsys_mtl.data.raw import SPLITS, RawData
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.spec import Spec
from recsys_mtl.storage import Place, locate


@dataclass(frozen=True)
class RawDay:
    """The impressions of one day, as a function that starts a new pass over them."""

    schema: Schema
    day: date
    rows: Callable[[], Iterator[pa.Table]]
    crosses: frozenset[str] = frozenset()
    """As those of `RawData`."""


def write_day(raw: RawDay, out: Place, *, base: Fitted, progress: Progress = lambda *_: None) -> Spec:
    """Let the encoding of an earlier data set grow by a day's values, encode the day, and put the whole at ``out``.

    Raises:
        ConfigError: ``out`` holds something else than a prepared data set, the base has another schema, a column is
            absent, or the day has no rows.
        FeatureError: a value that its feature cannot take, with its row in the day.
    """
    place = locate(out)
    refuse_foreign(place)
    with replaced(place, progress) as directory:
        splits = RawData(raw.schema, dict.fromkeys(SPLITS, raw.rows), raw.crosses)
        spec, stats = write_splits(splits, directory, ("train", "test"), base=base, progress=progress)
        _link(directory / "test", directory / "valid")
        counts = {split: stats.get(split, stats["test"]) for split in SPLITS}
        write_stats(directory, {"fingerprint": spec.fingerprint, "day": raw.day.isoformat(), "splits": counts})
    return spec


@dataclass(frozen=True)
class DayFacts:
    """What is known of a prepared day without reading its rows."""

    day: date
    rows: int
    digest: str
    """Changes with the day's rows, labels and encoding, as far as its statistics tell."""


def day_facts(directory: Place) -> DayFacts:
    """Read what ``stats.json`` says of a day.

    Raises:
        ConfigError: there is no prepared data set, or it is not one of a day.
    """
    content = (locate(directory) / STATS).read_bytes()
    try:
        stats = json.loads(content)
        return DayFacts(
            date.fromisoformat(stats["day"]), stats["splits"]["test"]["rows"], hashlib.sha256(content).hexdigest()[:16]
        )
    except (ValueError, KeyError, TypeError):
        raise ConfigError([f"{directory}: is not a prepared day; see `recsys-mtl prepare`, --days-from"]) from None


def _link(source: Path, target: Path) -> None:
    """Give files a second name, or a copy where the file system knows no second names."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        try:
            os.link(path, target / path.name)
        except OSError:
            shutil.copy2(path, target / path.name)
