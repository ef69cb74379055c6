"""Readers: batches for one worker of many, in an order that does not depend on how many there are."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from pydantic import NonNegativeInt, PositiveInt

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.batch import Batch, BatchLayout, blank, collate
from recsys_mtl.data.damage import DamagedError
from recsys_mtl.data.shards import Piece, RowGroup, Stream, cut


class ReaderConfig(Config):
    """How training rows are read and shuffled."""

    lanes: PositiveInt = 8
    """Streams that every global batch is drawn from in equal parts. Workers share them out, so that a batch has the
    same rows whatever their number, which must not be larger. More lanes mix better and hold more rows in memory."""
    prefetch: PositiveInt = 4
    """Batches decoded ahead of the step, in a thread."""
    skip_damaged: NonNegativeInt = 0
    """Row groups of the training split that may turn out unreadable: they are left out and counted, and one more ends
    the run. Of the other splits nothing is ever left out."""


@dataclass(frozen=True)
class Cursor:
    """A place in the training data: it belongs to the data, not to a worker."""

    epoch: int = 0
    step: int = 0
    """Global batches of the epoch that were used."""


@dataclass(frozen=True)
class Worker:
    """One of ``world`` readers of the same data."""

    rank: int = 0
    world: int = 1


class TrainReader:
    """Shuffled training batches of one worker; every row once per epoch over all workers.

    An epoch's row groups are laid end to end in a shuffled order and cut into lanes of equal length. Global batch ``k``
    is the ``k``-th slice of every lane. Nothing of this depends on the number of workers: they only divide the lanes.
    """

    def __init__(
        self,
        groups: list[RowGroup],
        layout: BatchLayout,
        config: ReaderConfig,
        *,
        batch_size: int,
        seed: int,
        worker: Worker,
    ) -> None:
        if worker.world > config.lanes:
            raise ConfigError([f"data.reader.lanes: {config.lanes} lanes cannot be shared by {worker.world} workers"])
        self.groups, self.layout, self.config = groups, layout, config
        self.seed, self.worker = seed, worker
        self.rows = sum(group.rows for group in groups)
        self.steps = -(-self.rows // batch_size)
        self.damage: dict[tuple[int, int], DamagedError] = {}
        """What this worker could not read in this epoch, by lane and number of the row group."""

    def epoch(self, cursor: Cursor) -> Iterator[Batch]:
        """Yield this worker's part of the epoch's remaining global batches."""
        self.damage.clear()
        groups = self._order(cursor.epoch)
        streams = {lane: self._stream(lane, groups, cursor) for lane in self.lanes(self.worker.rank)}
        for step in range(cursor.step, self.steps):
            yield batch_of(self._parts(streams, step), self.layout)

    def lanes(self, rank: int) -> range:
        """Lanes of a worker."""
        return range(rank, self.config.lanes, self.worker.world)

    def pieces(self, lane: int, cursor: Cursor) -> list[Piece]:
        """Return what the global batch at the cursor has of a lane, unreadable or not."""
        return cut(self._order(cursor.epoch), self._place(lane, cursor.step), self._place(lane, cursor.step + 1))

    def _order(self, epoch: int) -> list[RowGroup]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.groups))
        return [self.groups[i] for i in order]

    def _stream(self, lane: int, groups: list[RowGroup], cursor: Cursor) -> Stream:
        """Open what is left of a lane."""
        pieces = cut(groups, self._place(lane, cursor.step), self._place(lane, self.steps))
        on_damage = partial(self._note, lane) if self.config.skip_damaged else None
        return Stream(pieces, self.layout.columns, shuffle=(self.seed, cursor.epoch), on_damage=on_damage)

    def _note(self, lane: int, group: RowGroup, error: DamagedError) -> None:
        self.damage[lane, group.number] = error

    def _parts(self, streams: Mapping[int, Stream], step: int) -> Iterator[pa.Table]:
        """Take from every lane what global batch ``step`` has of it."""
        for lane, stream in streams.items():
            yield from stream.take(self._place(lane, step + 1) - self._place(lane, step))

    def _place(self, lane: int, step: int) -> int:
        """Where a lane stands before global batch ``step``, in rows of the epoch's order."""
        start, end = (self.rows * edge // self.config.lanes for edge in (lane, lane + 1))
        return start + (end - start) * step // self.steps


class EvalReader:
    """One worker's share of a split in its stored order: whole row groups, hence whole groups.

    Every worker yields the same number of batches, since sharded tables are looked up by all at once: blank ones after
    its last row.
    """

    def __init__(self, groups: list[RowGroup], layout: BatchLayout, *, batch_size: int, worker: Worker) -> None:
        self.layout, self.batch_size = layout, batch_size
        everyones = shares(groups, worker.world)
        rows = [sum(group.rows for group in mine) for mine in everyones]
        self.steps = max(-(-count // batch_size) for count in rows)
        self.mine, self.rows = everyones[worker.rank], rows[worker.rank]

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's batches."""
        stream = Stream(cut(self.mine, 0, self.rows), self.layout.columns)
        for step in range(self.steps):
            rows = min(self.batch_size, self.rows - step * self.batch_size)
            yield batch_of(stream.take(rows), self.layout)


def batch_of(parts: Iterable[pa.Table], layout: BatchLayout) -> Batch:
    """Join tables of rows into a batch; a blank one if there are none."""
    tables = list(parts)
    return collate(pa.concat_tables(tables), layout) if tables else blank(layout)


def shares(groups: list[RowGroup], world: int) -> list[list[RowGroup]]:
    """Give every row group to the worker in whose part of the split its middle lies."""
    total = sum(group.rows for group in groups)
    found: list[list[RowGroup]] = [[] for _ in range(world)]
    before = 0
    for group in groups:
        found[(2 * before + group.rows) * world // (2 * total)].append(group)
        before += group.rows
    return found
