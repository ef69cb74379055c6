"""Row groups of a split, and which rows of them belong to whom."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import ConfigError
from recsys_mtl.data.parquet import footers, opened
from recsys_mtl.storage import Location, Place, locate
from recsys_mtl.storage.stores import meaning


@dataclass(frozen=True)
class RowGroup:
    """A run of rows that is read at once."""

    path: Location
    index: int
    rows: int
    number: int
    """Position among all row groups of the split: the same for every worker and every run."""
    footer: pq.FileMetaData | None = field(default=None, compare=False, repr=False)
    """Of its file, so that reading it is one request less."""


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``end`` of a row group, counted after its shuffle if there is one."""

    group: RowGroup
    start: int
    end: int


def row_groups(data: Place, split: str) -> list[RowGroup]:
    """List a split's row groups in the order of file names.

    Raises:
        ConfigError: no such split, or a file that is not Parquet.
    """
    directory = locate(data) / split
    files = directory.children("*.parquet")
    if not files:
        raise ConfigError([f"data.path: {directory} has no Parquet files; is {data} a prepared data set?"])
    groups: list[RowGroup] = []
    for path, footer in zip(files, footers(files), strict=True):
        for index in range(footer.num_row_groups):
            groups.append(RowGroup(path, index, footer.row_group(index).num_rows, len(groups), footer))
    return groups


def cut(groups: list[RowGroup], start: int, end: int) -> list[Piece]:
    """Return the pieces that rows ``start`` to ``end`` of the groups laid end to end consist of."""
    ends = np.cumsum([group.rows for group in groups])
    pieces = []
    for group, group_end in zip(groups, ends.tolist(), strict=True):
        begin = group_end - group.rows
        low, high = max(start, begin) - begin, min(end, group_end) - begin
        if low < high:
            pieces.append(Piece(group, low, high))
    return pieces


class Stream:
    """Reads pieces one after another and hands out any number of rows at a time."""

    def __init__(self, pieces: list[Piece], columns: list[str], shuffle: tuple[int, int] | None = None) -> None:
        """``shuffle`` is (seed, epoch): each row group is permuted as a whole, alike for everyone who reads it."""
        self.tables = (_read_piece(piece, columns, shuffle) for piece in pieces)
        self.rest: pa.Table | None = None

    def take(self, rows: int) -> Iterator[pa.Table]:
        """Yield the next ``rows`` rows as tables."""
        while rows > 0:
            table = self.rest if self.rest is not None else next(self.tables)
            head = table.slice(0, rows)
            self.rest = table.slice(rows) if table.num_rows > rows else None
            rows -= head.num_rows
            yield head


def read(group: RowGroup, columns: list[str]) -> pa.Table:
    """Read one row group.

    Raises:
        ConfigError: the file is damaged or lacks a column, with its name and the row group's number.
    """
    try:
        with opened(group.path, group.footer) as file:
            table = file.read_row_group(group.index, columns=columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError([f"{group.path}: row group {group.index} cannot be read: {meaning(error)}"]) from None
    if absent := sorted(set(columns) - set(table.column_names)):
        raise ConfigError([f"{group.path}: column {name!r} is absent" for name in absent])
    return table


def _read_piece(piece: Piece, columns: list[str], shuffle: tuple[int, int] | None) -> pa.Table:
    table = read(piece.group, columns)
    if shuffle is None:
        return table.slice(piece.start, piece.end - piece.start)
    order = np.random.default_rng((*shuffle, piece.group.number)).permutation(piece.group.rows)
    return table.take(order[piece.start : piece.end])
