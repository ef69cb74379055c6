"""A prepared data set on disk: written as a whole or not at all.

    spec.yaml  vocab/  stats.json  golden.jsonl  golden.parquet  train/ valid/ test/ part-00000.parquet ...

Shards hold encoded columns. Rows of valid and test are ordered by group and no row group cuts a group, so that grouped
metrics can be computed in a stream by workers that share nothing.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.fit import fit
from recsys_mtl.data.golden import GoldenSample
from recsys_mtl.data.labels import GROUP, encode_targets
from recsys_mtl.data.raw import SPLITS, RawData, raw_columns
from recsys_mtl.data.spec import Spec
from recsys_mtl.data.stats import SplitStats

ROW_GROUP_ROWS = 8192
SHARD_ROWS = 64 * ROW_GROUP_ROWS

Progress = Callable[[str, int], None]
"""Called with the split's name and the number of rows done since the last call."""


def write_dataset(raw: RawData, out: Path, *, progress: Progress = lambda *_: None) -> Spec:
    """Fit on the training split, encode every split, and put the whole at ``out``.

    Raises:
        ConfigError: ``out`` holds something else than a prepared data set, a column is absent, or a split is empty.
        FeatureError: a value that its feature cannot take.
    """
    with replacing(out) as directory:
        spec, vocabularies = fit(raw.schema, _counted(raw.splits["train"](), "fit", progress))
        encoder = Encoder(spec, vocabularies)
        encoder.save(directory)
        golden = GoldenSample(spec)
        stats: dict[str, object] = {}
        for split in SPLITS:
            stats[split] = _write_split(split, raw, encoder, directory, golden, progress)
        golden.save(directory)
        content = {"fingerprint": spec.fingerprint, "splits": stats}
        (directory / "stats.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return spec


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give a directory beside ``out`` that takes its place at the end, or vanishes on any error."""
    out = out.absolute()
    if out.exists() and not (out / "spec.yaml").exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError([f"{out}: exists and is not a prepared data set; choose another directory"])
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_split(
    split: str, raw: RawData, encoder: Encoder, out: Path, golden: GoldenSample, progress: Progress
) -> dict[str, object]:
    """Encode and write one split; return its statistics."""
    stats = SplitStats(encoder.spec)
    encoded = _encoded(split, raw, encoder, golden, stats, progress)
    directory = out / split
    directory.mkdir()
    if split == "train":
        _write_stream(encoded, directory)
    else:
        _write_by_group(encoded, directory)
    if stats.rows == 0:
        raise ConfigError([f"{split}: the split has no rows"])
    return stats.as_dict()


def _encoded(
    split: str, raw: RawData, encoder: Encoder, golden: GoldenSample, stats: SplitStats, progress: Progress
) -> Iterator[pa.Table]:
    for chunk in _counted(raw.splits[split](), split, progress):
        if absent := [name for name in raw_columns(raw.schema) if name not in chunk.column_names]:
            raise ConfigError([f"{split}: column {name!r} is absent" for name in absent])
        features = encoder.encode(chunk)
        table = encode_targets(encoder.spec, chunk, features)
        stats.update(table)
        if split == "test":
            golden.offer(chunk, table)
        yield table


def _write_stream(tables: Iterator[pa.Table], directory: Path) -> None:
    """Write rows in the order they come, whole row groups at a time."""
    writer: pq.ParquetWriter | None = None
    rest: pa.Table | None = None
    written = 0
    for table in tables:
        rest = table if rest is None else pa.concat_tables([rest, table])
        while rest.num_rows >= ROW_GROUP_ROWS:
            if writer is None or written % SHARD_ROWS == 0:
                _close(writer)
                writer = _open(directory, written // SHARD_ROWS, table.schema)
            writer.write_table(rest.slice(0, ROW_GROUP_ROWS).combine_chunks())
            rest = rest.slice(ROW_GROUP_ROWS)
            written += ROW_GROUP_ROWS
    if rest is not None and rest.num_rows:
        writer = writer or _open(directory, 0, rest.schema)
        writer.write_table(rest.combine_chunks())
    _close(writer)


def _write_by_group(tables: Iterator[pa.Table], directory: Path) -> None:
    """Sort by group and cut row groups between groups only."""
    parts = list(tables)
    if not parts:
        return
    table = pa.concat_tables(parts).combine_chunks()
    table = table.take(pc.sort_indices(table, sort_keys=[(GROUP, "ascending")]))
    with _open(directory, 0, table.schema) as writer:
        for start, end in group_cuts(table[GROUP].to_numpy(), ROW_GROUP_ROWS):
            writer.write_table(table.slice(start, end - start))


def group_cuts(groups: npt.NDArray[np.int64], rows: int) -> Iterator[tuple[int, int]]:
    """Cut sorted ``groups`` into ranges of about ``rows`` rows that never split a group."""
    ends = np.append(np.flatnonzero(np.diff(groups)) + 1, len(groups))
    start = 0
    while start < len(groups):
        end = int(ends[min(np.searchsorted(ends, start + rows), len(ends) - 1)])
        yield start, end
        start = end


def _open(directory: Path, number: int, schema: pa.Schema) -> pq.ParquetWriter:
    path = directory / f"part-{number:05d}.parquet"
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)


def _close(writer: pq.ParquetWriter | None) -> None:
    if writer is not None:
        writer.close()


def _counted(tables: Iterator[pa.Table], stage: str, progress: Progress) -> Iterator[pa.Table]:
    for table in tables:
        yield table
        progress(stage, table.num_rows)
