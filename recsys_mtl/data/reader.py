"""Readers: batches for one worker of many, in an order that does not depend on how many there are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.batch import Batch, BatchLayout, blank, collate
from recsys_mtl.data.shards import RowGroup, Stream, cut


class ReaderConfig(Config):
    """How training rows are read and shuffled."""

    lanes: PositiveInt = 8
    """Streams that every global batch is drawn from in equal parts. Workers share them out, so that a batch has the same
    rows whatever their number, which must not be larger. More lanes mix better and hold more row groups in memory."""
    prefetch: PositiveInt = 4
    """Batches decoded ahead of the step, in a thread."""


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
        self, groups: list[RowGroup], layout: BatchLayout, config: ReaderConfig, *, batch_size: int, seed: int, worker: Worker
    ) -> None:
        if worker.world > config.lanes:
            raise ConfigError([f"data.reader.lanes: {config.lanes} lanes cannot be shared by {worker.world} workers"])
        self.groups, self.layout, self.config = groups, layout, config
        self.seed, self.worker = seed, worker
        self.rows = sum(group.rows for group in groups)
        self.steps = -(-self.rows // batch_size)

    def epoch(self, cursor: Cursor) -> Iterator[Batch]:
        """Yield this worker's part of the epoch's remaining global batches."""
        lanes = range(self.worker.rank, self.config.lanes, self.worker.world)
        streams = {lane: self._stream(lane, cursor) for lane in lanes}
        for step in range(cursor.step, self.steps):
            parts = [part for lane in lanes for part in streams[lane].take(self._rows_in(lane, step))]
            yield collate(pa.concat_tables(parts), self.layout) if parts else blank(self.layout)

    def _stream(self, lane: int, cursor: Cursor) -> Stream:
        order = np.random.default_rng((self.seed, cursor.epoch)).permutation(len(self.groups))
        start, end = self._lane(lane)
        pieces = cut([self.groups[i] for i in order], start, end)
        stream = Stream(pieces, self.layout.columns, shuffle=(self.seed, cursor.epoch))
        stream.skip(self._position(lane, cursor.step))
        return stream

    def _lane(self, lane: int) -> tuple[int, int]:
        """Rows of a lane, counted in the epoch's order."""
        return self.rows * lane // self.config.lanes, self.rows * (lane + 1) // self.config.lanes

    def _position(self, lane: int, step: int) -> int:
        """Rows of a lane that the first ``step`` global batches use."""
        start, end = self._lane(lane)
        return (end - start) * step // self.steps

    def _rows_in(self, lane: int, step: int) -> int:
        return self._position(lane, step + 1) - self._position(lane, step)


class EvalReader:
    """One worker's share of a split in its stored order: whole row groups, hence whole groups.

    Every worker yields the same number of batches, since sharded tables are looked up by all at once.
    """

    def __init__(self, groups: list[RowGroup], layout: BatchLayout, *, batch_size: int, worker: Worker) -> None:
        self.layout = layout
        shares = [share(groups, Worker(rank, worker.world)) for rank in range(worker.world)]
        rows = [sum(group.rows for group in mine) for mine in shares]
        self.steps = max(-(-count // batch_size) for count in rows)
        self.mine, self.rows = shares[worker.rank], rows[worker.rank]

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's batches."""
        stream = Stream(cut(self.mine, 0, self.rows), self.layout.columns)
        for step in range(self.steps):
            parts = list(stream.take(self.rows * (step + 1) // self.steps - self.rows * step // self.steps))
            yield collate(pa.concat_tables(parts), self.layout) if parts else blank(self.layout)


def share(groups: list[RowGroup], worker: Worker) -> list[RowGroup]:
    """Give a worker the row groups whose middle lies in its part of the split."""
    total = sum(group.rows for group in groups)
    ends = np.cumsum([group.rows for group in groups])
    owners = (ends - np.array([group.rows for group in groups]) / 2) * worker.world // max(total, 1)
    return [group for group, owner in zip(groups, owners, strict=True) if owner == worker.rank]
