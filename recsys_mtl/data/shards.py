"""Row groups of a split, and which rows of them belong to whom."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import ConfigError
from recsys_mtl.data.damage import DamagedError, Gap, written_layout
from recsys_mtl.data.parquet import UNREADABLE, contents, opened
from recsys_mtl.storage import Location, Place, locate
from recsys_mtl.storage.stores import is_refusal, meaning


@dataclass(frozen=True)
class RowGroup:
    """A run of rows that is read at once."""

    path: Location
    index: int
    rows: int
    number: int
    """Position among all row groups of the split: the same for every worker and every run."""
    footer: pq.FileMetaData | None = field(default=None, compare=False, repr=False)
    """Of its file, where reading it again would be another request."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.path}: row group {self.index}"


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``end`` of a row group, counted after its shuffle if there is one."""

    group: RowGroup
    start: int
    end: int


def row_groups(data: Place, split: str, *, allow_damage: bool = False) -> list[RowGroup]:
    """List a split's row groups in the order of file names.

    With ``allow_damage`` the row groups of files that are not readable, or that are not there, are listed where they
    would be: reading them then fails.

    Raises:
        ConfigError: no such split, or a file that is not Parquet.
    """
    directory = locate(data) / split
    files = directory.children("*.parquet")
    if not files:
        raise ConfigError([f"data.path: {directory} has no Parquet files; is {data} a prepared data set?"])
    found, problems = contents(files)
    if problems and not allow_damage:
        raise ConfigError(problems)
    sizes = {path.name: content.rows for path, content in found.items()}
    if allow_damage:
        sizes = written_layout(data, split, sizes)
    known = {path.name: content.footer for path, content in found.items()}
    listed = [(name, index, rows) for name in sizes for index, rows in enumerate(sizes[name])]
    return [
        RowGroup(directory / name, index, rows, number, known.get(name))
        for number, (name, index, rows) in enumerate(listed)
    ]


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

    def __init__(
        self,
        pieces: list[Piece],
        columns: list[str],
        shuffle: tuple[int, int] | None = None,
        *,
        on_damage: Callable[[RowGroup, DamagedError], None] | None = None,
    ) -> None:
        """``shuffle`` is (seed, epoch): each row group is permuted as a whole, alike for everyone who reads it.

        ``on_damage`` hears of a row group that cannot be read, whose rows are then left out; else that is an error.
        """
        self.tables = (self._read(piece, columns, shuffle) for piece in pieces)
        self.on_damage = on_damage
        self.rest: pa.Table | Gap | None = None

    def take(self, rows: int) -> Iterator[pa.Table]:
        """Yield the next ``rows`` rows as tables, without those that could not be read."""
        while rows > 0:
            table = self.rest if self.rest is not None else next(self.tables)
            head = table.slice(0, rows)
            self.rest = table.slice(rows) if table.num_rows > rows else None
            rows -= head.num_rows
            if isinstance(head, pa.Table):
                yield head

    def _read(self, piece: Piece, columns: list[str], shuffle: tuple[int, int] | None) -> pa.Table | Gap:
        try:
            table = read(piece.group, columns)
        except DamagedError as error:
            if self.on_damage is None:
                raise
            self.on_damage(piece.group, error)
            return Gap(piece.end - piece.start)
        if shuffle is None:
            return table.slice(piece.start, piece.end - piece.start)
        return table.take(row_order(piece.group, shuffle)[piece.start : piece.end])


def row_order(group: RowGroup, shuffle: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return the order of a row group's rows in an epoch; ``shuffle`` is (seed, epoch)."""
    return np.random.default_rng((*shuffle, group.number)).permutation(group.rows)


def read(group: RowGroup, columns: list[str]) -> pa.Table:
    """Read one row group.

    Raises:
        DamagedError: it cannot be read, with the file's name and the row group's number.
        ConfigError: the file lacks a column.
    """
    try:
        with opened(group.path, group.footer) as file:
            table = file.read_row_group(group.index, columns=columns, use_threads=False)
    except UNREADABLE as error:
        kind = ConfigError if is_refusal(error) else DamagedError  # a store that is away has damaged nothing
        raise kind([f"{group.name} cannot be read: {meaning(error)}"]) from None
    if absent := sorted(set(columns) - set(table.column_names)):
        raise ConfigError([f"{group.path}: column {name!r} is absent" for name in absent])
    if table.num_rows != group.rows:
        raise DamagedError([f"{group.name} cannot be read: it has {table.num_rows} rows and had {group.rows}"])
    return table
