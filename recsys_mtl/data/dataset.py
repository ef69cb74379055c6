"""A prepared data set, on disk or in an object store: written as a whole or not at all.

    spec.yaml  vocab/  stats.json  golden.jsonl  golden.parquet  features/ users.parquet items.parquet
    train/ valid/ test/ part-00000.parquet ...

Shards hold encoded columns. Rows of valid and test are ordered by group and no row group cuts a group, so that grouped
metrics can be computed in a stream by workers that share nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.fit import fit
from recsys_mtl.data.growth import Fitted
from recsys_mtl.data.keepsakes import Keepsakes
from recsys_mtl.data.labels import encode_targets
from recsys_mtl.data.newest import FEATURES
from recsys_mtl.data.raw import SPLITS, RawData, raw_columns
from recsys_mtl.data.replacing import replacing
from recsys_mtl.data.shard_writer import write_by_group, write_shuffled
from recsys_mtl.data.spec import Spec
from recsys_mtl.data.stats import SplitStats
from recsys_mtl.data.uploading import UNFINISHED, uploading
from recsys_mtl.data.values import FeatureError
from recsys_mtl.storage import Location, Place, locate

SPEC = "spec.yaml"
"""The file that makes a directory a data set."""
STATS = "stats.json"
REQUIRED = frozenset({SPEC, STATS, *SPLITS})
PARTS = REQUIRED | {"vocab", "golden.jsonl", "golden.parquet", FEATURES}

Progress = Callable[[str, int], None]
"""Called with the split's name, or ``fit``, and the number of rows done since the last call; ``upload`` counts KiB."""


def write_dataset(raw: RawData, out: Place, *, progress: Progress = lambda *_: None) -> Spec:
    """Fit on the training split, encode every split, and put the whole at ``out``.

    Raises:
        ConfigError: ``out`` holds something else than a prepared data set, a column is absent, or a split is empty.
        FeatureError: a value that its feature cannot take, with its row in the split.
    """
    place = locate(out)
    refuse_foreign(place)
    with replaced(place, progress) as directory:
        spec, stats = write_splits(raw, directory, SPLITS, progress=progress)
        write_stats(directory, {"fingerprint": spec.fingerprint, "splits": stats})
    return spec


def write_splits(
    raw: RawData,
    directory: Path,
    splits: Sequence[str],
    *,
    base: Fitted | None = None,
    newest: Sequence[str] = ("train",),
    progress: Progress = lambda *_: None,
) -> tuple[Spec, dict[str, dict[str, object]]]:
    """Fit on the training split, or let ``base`` grow by it, and encode ``splits``; return their statistics.

    ``newest`` names the splits that know last what users and items are like.

    Raises:
        ConfigError: the base has another schema, a column is absent, or a split is empty.
        FeatureError: a value that its feature cannot take, with its row in the split.
    """
    rows = Rows(raw, "train", progress, "fit")
    with rows.located():
        spec, vocabularies = fit(raw.schema, rows, base)
    encoder = Encoder(spec, vocabularies)
    encoder.save(directory)
    keepsakes = Keepsakes(spec, raw.crosses, newest)
    stats = {
        split: _write_split(Rows(raw, split, progress, split), encoder, keepsakes, directory, train_rows=rows.done)
        for split in splits
    }
    keepsakes.save(directory)
    return spec, stats


def write_stats(directory: Path, content: Mapping[str, object]) -> None:
    """Write ``stats.json``."""
    (directory / STATS).write_text(json.dumps(content, indent=2), encoding="utf-8")


def replaced(out: Location, progress: Progress) -> AbstractContextManager[Path]:
    """Give a new local directory that becomes ``out`` at the end, or vanishes on any error."""
    if out.is_local:
        return replacing(out.local)
    return uploading(out, last=SPEC, progress=partial(progress, "upload"))


def refuse_foreign(out: Location) -> None:
    """Make sure that writing to ``out`` destroys nothing but a prepared data set.

    Raises:
        ConfigError: there is something else.
    """
    if out.is_local and out.local.is_mount():
        raise ConfigError([f"{out}: is a mount point, which cannot be replaced; choose a directory in it"])
    names = {child.name for child in out.children()} if out.is_directory() else {out.name} if out.exists() else set()
    if UNFINISHED in names and names <= PARTS | {UNFINISHED}:
        return
    if names and not REQUIRED <= names <= PARTS:
        other = min(names - PARTS, default="an unfinished one")
        raise ConfigError([f"{out}: exists and is not a prepared data set ({other}); choose another directory"])


@dataclass
class Rows:
    """One pass over a split's rows, which knows how many are done."""

    raw: RawData
    split: str
    progress: Progress
    stage: str
    done: int = 0

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the tables, each with all columns."""
        for table in self.raw.splits[self.split]():
            if absent := [name for name in raw_columns(self.raw.schema) if name not in table.column_names]:
                raise ConfigError([f"{self.split}: column {name!r} is absent" for name in absent])
            yield table
            self.done += table.num_rows
            self.progress(self.stage, table.num_rows)
        if self.done == 0:
            raise ConfigError([f"{self.split}: the split has no rows"])

    @contextmanager
    def located(self) -> Iterator[None]:
        """Let errors name a row of the split rather than of the table that is being worked on."""
        try:
            yield
        except FeatureError as error:
            raise error.within(self.split, self.done) from None


def _write_split(
    rows: Rows, encoder: Encoder, keepsakes: Keepsakes, out: Path, *, train_rows: int
) -> dict[str, object]:
    """Encode and write one split; return its statistics."""
    stats = SplitStats(encoder.spec)
    directory = out / rows.split
    directory.mkdir()
    encoded = _encoded(rows, encoder, keepsakes, stats)
    with rows.located():
        if rows.split == "train":
            write_shuffled(encoded, directory, rows=train_rows)
        else:
            write_by_group(encoded, directory)
    return stats.as_dict()


def _encoded(rows: Rows, encoder: Encoder, keepsakes: Keepsakes, stats: SplitStats) -> Iterator[pa.Table]:
    for table in rows:
        encoded = encode_targets(encoder.spec, table, encoder.encode(table))
        stats.update(table, encoded)
        keepsakes.offer(rows.split, table, encoded)
        yield encoded
