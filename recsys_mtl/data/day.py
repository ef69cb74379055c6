"""A prepared day: what a model of the days before is tested on first, and then learns.

A day is a prepared data set whose test split holds all of its rows: until a model has learnt them, they are its
held-out data. The rows of some groups can be held out for good, to judge what has learnt the others: those are the
validation split then, and no part of the training split. Its encoding continues that of the day before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_mtl.config import ConfigError
from recsys_mtl.data.dataset import STATS, Progress, refuse_foreign, replaced, write_splits, write_stats
from recsys_mtl.data.encode import raw_column
from recsys_mtl.data.growth import Fitted
from recsys_mtl.data.labels import encode_group
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


def write_day(
    raw: RawDay, out: Place, *, base: Fitted, hold_out: float = 0.0, progress: Progress = lambda *_: None
) -> Spec:
    """Let the encoding of an earlier data set grow by a day's values, encode the day, and put the whole at ``out``.

    Args:
        hold_out: Share of the day's groups whose rows are not for learning; others every day.

    Raises:
        ConfigError: ``out`` holds something else than a prepared data set, the base has another schema, a column is
            absent, or the day has no rows.
        FeatureError: a value that its feature cannot take, with its row in the day.
    """
    place = locate(out)
    refuse_foreign(place)
    with replaced(place, progress) as directory:
        splits = RawData(raw.schema, _splits(raw, hold_out), raw.crosses)
        written = SPLITS if hold_out else ("train", "test")
        spec, stats = write_splits(splits, directory, written, base=base, newest=("test",), progress=progress)
        if not hold_out:
            _link(directory / "test", directory / "valid")
        counts = {split: stats.get(split, stats["test"]) for split in SPLITS}
        held = {"held_out": hold_out} if hold_out else {}
        write_stats(directory, {"fingerprint": spec.fingerprint, "day": raw.day.isoformat(), **held, "splits": counts})
    return spec


def _splits(raw: RawDay, hold_out: float) -> dict[str, Callable[[], Iterator[pa.Table]]]:
    """Return the rows to learn, those that are held out, and all of them."""
    if not hold_out:
        return dict.fromkeys(SPLITS, raw.rows)
    parts = {split: partial(_part, raw, hold_out, held=split == "valid") for split in ("train", "valid")}
    return {**parts, "test": raw.rows}


def _part(raw: RawDay, hold_out: float, *, held: bool) -> Iterator[pa.Table]:
    for table in raw.rows():
        groups = encode_group(raw_column(table, raw.schema.group), raw.schema.group).to_numpy()
        yield table.filter(pa.array(held_out(groups, raw.day, hold_out) == held))


def held_out(groups_B: npt.NDArray[np.int64], day: date, share: float) -> npt.NDArray[np.bool_]:
    """Tell which rows are held out of a day: a hash of group and day decides (the finaliser of splitmix64)."""
    mixed_B = groups_B.astype(np.uint64) + np.uint64(day.toordinal() * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed_B = (mixed_B ^ (mixed_B >> np.uint64(shift))) * np.uint64(factor)
    chosen_B: npt.NDArray[np.bool_] = ((mixed_B ^ (mixed_B >> np.uint64(31))) >> np.uint64(11)) < share * 2**53
    return chosen_B


@dataclass(frozen=True)
class DayFacts:
    """What is known of a prepared day without reading its rows."""

    day: date
    rows: int
    digest: str
    """Changes with the day's rows, labels and encoding, as far as its statistics tell."""
    held_out: int
    """Rows that are not for learning."""


def day_facts(directory: Place) -> DayFacts:
    """Read what ``stats.json`` says of a day.

    Raises:
        ConfigError: there is no prepared data set, or it is not one of a day.
    """
    content = (locate(directory) / STATS).read_bytes()
    try:
        stats = json.loads(content)
        rows = {split: int(counts["rows"]) for split, counts in stats["splits"].items()}
        digest = hashlib.sha256(content).hexdigest()[:16]
        held = rows["valid"] if stats.get("held_out") else 0
        return DayFacts(date.fromisoformat(stats["day"]), rows["test"], digest, held)
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
