"""Generated data sets of any size: ids that follow Zipf's law, in the format of prepared data.

Ids are encoded as `recsys_mtl.data.encode.Encoder` encodes them, but by one look-up for a whole column, since all
hashed columns of a size share their buckets. That makes tens of millions of rows a matter of minutes.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.results import digest
from recsys_mtl.config import validate
from recsys_mtl.data.dataset import write_stats
from recsys_mtl.data.encode import Encoder, hash64
from recsys_mtl.data.golden import GoldenSample
from recsys_mtl.data.labels import encode_targets
from recsys_mtl.data.lists import as_lists, lists_of
from recsys_mtl.data.raw import SPLITS
from recsys_mtl.data.replacing import replacing
from recsys_mtl.data.schema import FIRST_ID, Schema
from recsys_mtl.data.shard_writer import write_by_group, write_shuffled
from recsys_mtl.data.spec import Spec, make_spec
from recsys_mtl.data.stats import SplitStats
from recsys_mtl.data.values import single_array

CHUNK_ROWS = 262_144
HELD_OUT_ROWS = 8_192
"""Of validation and test each, but no more than of training."""
ROWS_PER_USER = 20
RATES = (0.3, 0.2, 0.1, 0.05)
"""Shares of positive labels, in turn."""
HISTORY = "history"


@dataclass(frozen=True)
class Shape:
    """What decides about a generated data set."""

    rows: int = 131_072
    """Of the training split."""
    vocabulary: int = 100_000
    """Rows of every table, beside the unknown and the missing one."""
    fields: int = 26
    tasks: int = 4
    events: int = 0
    """Length of a user's history; without any there is none."""
    dim: int = 16

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"rows{self.rows}-vocabulary{self.vocabulary}-{digest(asdict(self))}"

    @property
    def field_names(self) -> list[str]:
        """Id features."""
        return [f"field{i}" for i in range(self.fields)]

    @property
    def task_names(self) -> list[str]:
        """Tasks."""
        return [f"task{i}" for i in range(self.tasks)]

    @property
    def schema(self) -> Schema:
        """Half of the fields are the user's, half the item's; half of the tasks are in a group of their own."""
        names = self.field_names
        features: list[dict[str, Any]] = [
            {"kind": "id", "name": name, "entity": "user" if i < self.fields // 2 else "item"}
            for i, name in enumerate(names)
        ]
        if self.events:
            columns = [{"name": HISTORY, "table": names[-1]}]
            features += [
                {"kind": "sequence", "name": "seen", "entity": "user", "max_length": self.events, "columns": columns}
            ]
        tasks = [
            {"kind": "binary", "name": name, "group": "first" if i < (self.tasks + 1) // 2 else "second"}
            for i, name in enumerate(self.task_names)
        ]
        table = {"encoding": {"kind": "hash", "buckets": self.vocabulary}, "dim": self.dim}
        return validate(
            Schema, {"features": features, "tasks": tasks, "tables": dict.fromkeys(names, table), "group": "user"}
        )


def generated(shape: Shape, folder: Path) -> Path:
    """Return a data set of this shape below ``folder``, generating it if it is not there."""
    path = folder / shape.name
    if not path.exists():
        with replacing(path) as directory:
            write(shape, directory)
    return path


def write(shape: Shape, directory: Path) -> Spec:
    """Write a data set of this shape."""
    spec = make_spec(shape.schema, {}, {})
    Encoder(spec, {}).save(directory)
    golden, splits = GoldenSample(spec), {}
    for seed, split in enumerate(SPLITS):
        (directory / split).mkdir()
        rows = shape.rows if split == "train" else min(shape.rows, HELD_OUT_ROWS)
        stats = SplitStats(spec)
        tables = _encoded(shape, spec, rows, seed, stats, golden if split == "test" else None)
        if split == "train":
            write_shuffled(tables, directory / split, rows=rows)
        else:
            write_by_group(tables, directory / split)
        splits[split] = stats.as_dict()
    golden.save(directory)
    write_stats(directory, {"fingerprint": spec.fingerprint, "splits": splits})
    return spec


def _encoded(
    shape: Shape, spec: Spec, rows: int, seed: int, stats: SplitStats, golden: GoldenSample | None
) -> Iterator[pa.Table]:
    buckets = bucket_of_ids(shape.vocabulary)
    for first in range(0, rows, CHUNK_ROWS):
        raw = raw_rows(shape, min(CHUNK_ROWS, rows - first), seed=(seed, first))
        encoded = encode_targets(spec, raw, encode(raw, shape, buckets))
        stats.update(raw, encoded)
        if golden is not None:
            golden.offer(raw, encoded)
        yield encoded


def raw_rows(shape: Shape, rows: int, *, seed: tuple[int, int]) -> pa.Table:
    """Draw impressions."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: zipf(rng, rows, shape.vocabulary) for name in shape.field_names}
    if shape.events:
        columns[HISTORY] = lists_of(zipf(rng, rows * shape.events, shape.vocabulary), np.full(rows, shape.events))
    for i, name in enumerate(shape.task_names):
        columns[name] = (rng.random(rows, np.float32) < RATES[i % len(RATES)]).astype(np.int8)
    return pa.table(columns | {"user": rng.integers(0, max(rows // ROWS_PER_USER, 1), rows)})


def zipf(rng: np.random.Generator, count: int, values: int) -> npt.NDArray[np.int32]:
    """Draw ids below ``values`` whose frequency falls as one over their rank."""
    ranks = np.exp(rng.random(count, np.float32) * np.float32(np.log(values)))
    return np.asarray(np.minimum(ranks, values) - 1, np.int32)


def bucket_of_ids(values: int) -> npt.NDArray[np.int32]:
    """Return the table row that the encoder gives to each id below ``values``."""
    return np.fromiter((FIRST_ID + hash64(str(i)) % values for i in range(values)), np.int32, values)


def encode(raw: pa.Table, shape: Shape, buckets: npt.NDArray[np.int32]) -> pa.Table:
    """Encode features as the library does."""
    columns = {name: pa.array(buckets[raw[name].to_numpy()]) for name in shape.field_names}
    if shape.events:
        events, lengths = as_lists(single_array(raw[HISTORY]), HISTORY, separator=None)
        columns[HISTORY] = lists_of(buckets[events.to_numpy()], lengths)
    return pa.table(columns)
