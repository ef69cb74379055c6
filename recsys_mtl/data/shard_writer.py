"""Writing a split's shards: Parquet files whose row groups are what workers share out."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.data.labels import GROUP

ROW_GROUP_ROWS = 8192
SHARD_ROW_GROUPS = 64
PILE_ROWS = 64 * ROW_GROUP_ROWS
"""Rows that are shuffled in memory at once."""
MOST_PILES = 256
"""Files that are open at once; more rows than this many piles take make larger piles."""
DEAL_SEED = 0


def write_shuffled(tables: Iterator[pa.Table], directory: Path, *, rows: int) -> None:
    """Write rows in a random order that is the same every time, so that every row group is a sample of the whole.

    Readers shuffle row groups and the rows within them; on logs, which come by date, that alone leaves long stretches
    of one day, or of one kind of labels. More ``rows`` than fit into memory are dealt out to piles on disk first.
    """
    piles = min(MOST_PILES, -(-rows // PILE_ROWS))
    if piles <= 1:
        _write(_row_groups(iter([_shuffled(list(tables), pile=0)])), directory)
        return
    with TemporaryDirectory(prefix=".piles-", dir=directory) as scratch:
        paths = _deal(tables, [Path(scratch) / f"pile-{pile}.arrow" for pile in range(piles)])
        _write(_row_groups(_shuffled([_read_pile(path)], pile=i) for i, path in enumerate(paths)), directory)


def _deal(tables: Iterator[pa.Table], paths: list[Path]) -> list[Path]:
    """Put every row on a random one of the piles; return those that got any."""
    generator = np.random.default_rng(DEAL_SEED)
    with ExitStack() as files:
        writers: dict[int, pa.RecordBatchFileWriter] = {}
        for table in tables:
            owner = generator.integers(len(paths), size=table.num_rows)
            for pile in np.unique(owner).tolist():
                if pile not in writers:
                    writers[pile] = files.enter_context(pa.ipc.new_file(str(paths[pile]), table.schema))
                writers[pile].write_table(table.take(np.flatnonzero(owner == pile)))
    return [paths[pile] for pile in sorted(writers)]


def _read_pile(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _shuffled(tables: list[pa.Table], *, pile: int) -> pa.Table:
    joined = pa.concat_tables(tables).combine_chunks()
    return joined.take(np.random.default_rng((DEAL_SEED, pile)).permutation(joined.num_rows))


def write_by_group(tables: Iterator[pa.Table], directory: Path) -> None:
    """Sort by group, in memory, and cut row groups between groups only."""
    table = pa.concat_tables(list(tables)).combine_chunks()
    table = table.take(np.argsort(table[GROUP].to_numpy(), kind="stable"))
    cuts = group_cuts(table[GROUP].to_numpy(), ROW_GROUP_ROWS)
    _write((table.slice(start, end - start) for start, end in cuts), directory)


def group_cuts(groups: npt.NDArray[np.int64], rows: int) -> Iterator[tuple[int, int]]:
    """Cut sorted ``groups`` into ranges of ``rows`` rows or little more that never split a group."""
    ends = np.append(np.flatnonzero(np.diff(groups)) + 1, len(groups))
    start = 0
    while start < len(groups):
        end = int(ends[min(int(np.searchsorted(ends, start + rows)), len(ends) - 1)])
        yield start, end
        start = end


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Cut a stream of tables of any length into row groups; the last one may be short."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows >= ROW_GROUP_ROWS:
            joined = pa.concat_tables(waiting)
            whole = rows - rows % ROW_GROUP_ROWS
            yield from (joined.slice(start, ROW_GROUP_ROWS) for start in range(0, whole, ROW_GROUP_ROWS))
            waiting, rows = [joined.slice(whole)], rows - whole
    if rows:
        yield pa.concat_tables(waiting)


def _write(row_groups: Iterator[pa.Table], directory: Path) -> None:
    """Write row groups into as many files as they need."""
    for number, first in enumerate(row_groups):
        with _open(directory / shard_name(number), first.schema) as file:
            file.write_table(first)
            for row_group in islice(row_groups, SHARD_ROW_GROUPS - 1):
                file.write_table(row_group)


def shard_name(number: int) -> str:
    """Name a split's file by its place among the others."""
    return f"part-{number:05d}.parquet"


def _open(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Ids repeat, numbers do not: to look for repetitions in these, too, takes a third of the time of writing.
    ids = [field for field in schema if not pa.types.is_floating(field.type)]
    paths = [f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in ids]
    options: dict[str, Any] = {"use_dictionary": paths}  # typed as a bool in pyarrow's stubs
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, write_page_checksum=True, **options)
