"""Batch: a few thousand impressions as tensors, and how they are made from encoded columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recsys_mtl.data.feature_kinds import NumberFeature, SequenceFeature, table_of
from recsys_mtl.data.labels import GROUP, WEIGHT, label_name
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import Int32s, single_array


@dataclass
class Batch:
    """B impressions. Lists of ids are jagged; a label that is not known is NaN."""

    pooled: KeyedJaggedTensor
    """Ids of the features whose tables no sequence reads: one vector per row and feature."""
    events: KeyedJaggedTensor
    """Ids of sequences, and of the features that share a table with one."""
    dense_BC: Tensor
    labels_BT: Tensor
    weights_B: Tensor
    groups_B: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Return the batch on ``device``."""
        return Batch(*(part.to(device, non_blocking=non_blocking) for part in self.parts()))

    def record_stream(self, stream: torch.Stream) -> None:
        """Tell the allocator that ``stream`` uses these tensors (what torchrec's pipelines ask for)."""
        for part in self.parts():
            part.record_stream(stream)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory."""
        return Batch(*(part.pin_memory() for part in self.parts()))

    def parts(self) -> tuple[KeyedJaggedTensor, KeyedJaggedTensor, Tensor, Tensor, Tensor, Tensor]:
        """All fields, in their order."""
        return self.pooled, self.events, self.dense_BC, self.labels_BT, self.weights_B, self.groups_B

    def __len__(self) -> int:
        """B."""
        return len(self.groups_B)


@dataclass(frozen=True)
class BatchLayout:
    """Which encoded columns go where in a batch. The order of keys is fixed by the schema."""

    pooled: tuple[str, ...]
    events: tuple[str, ...]
    dense: tuple[str, ...]
    labels: tuple[str, ...]
    weighted: bool

    @classmethod
    def of(cls, schema: Schema, tasks: tuple[str, ...]) -> "BatchLayout":
        """Lay out a schema's features, and the labels of ``tasks``."""
        shared = event_tables(schema)
        pooled: list[str] = []
        events: list[str] = []
        dense: list[str] = []
        for feature in schema.features:
            if isinstance(feature, SequenceFeature):
                events += [column.name for column in feature.columns]
            elif isinstance(feature, NumberFeature):
                (dense if feature.boundaries is None else pooled).append(feature.name)
            else:
                (events if table_of(feature) in shared else pooled).append(feature.name)
        labels = tuple(label_name(task) for task in tasks)
        return cls(tuple(pooled), tuple(events), tuple(dense), labels, schema.weight is not None)

    @property
    def columns(self) -> list[str]:
        """Columns to read from shards."""
        return [*self.pooled, *self.events, *self.dense, *self.labels, GROUP, *([WEIGHT] if self.weighted else [])]


def event_tables(schema: Schema) -> set[str]:
    """Tables that some sequence reads: their rows are needed unpooled."""
    sequences = [feature for feature in schema.features if isinstance(feature, SequenceFeature)]
    return {table_of(column) for feature in sequences for column in feature.columns}


def collate(table: pa.Table, layout: BatchLayout) -> Batch:
    """Turn encoded rows into a batch. Labels, group and weight may be absent, as they are in requests."""
    rows = table.num_rows
    names = set(table.column_names)
    return Batch(
        pooled=jagged(table, layout.pooled),
        events=jagged(table, layout.events),
        dense_BC=stacked(table, layout.dense),
        labels_BT=stacked(table, layout.labels if names.issuperset(layout.labels) else ()),
        weights_B=torch.tensor(numpy(table, WEIGHT)) if WEIGHT in names else torch.ones(rows),
        groups_B=torch.tensor(numpy(table, GROUP)) if GROUP in names else torch.zeros(rows, dtype=torch.int64),
    )


def jagged(table: pa.Table, keys: tuple[str, ...]) -> KeyedJaggedTensor:
    """Join columns of ids and of lists of ids into one keyed jagged tensor."""
    # Empty arrays go first, so that there is something to join without any keys.
    values: list[Int32s] = [np.empty(0, np.int32)]
    lengths: list[Int32s] = [np.empty(0, np.int32)]
    ones = np.ones(table.num_rows, np.int32)
    for key in keys:
        column = single_array(table[key])
        if isinstance(column, pa.ListArray):
            values.append(column.flatten().to_numpy())
            lengths.append(np.diff(column.offsets.to_numpy()))
        else:
            values.append(column.to_numpy())
            lengths.append(ones)
    return KeyedJaggedTensor(
        keys=list(keys),
        values=torch.from_numpy(np.concatenate(values, dtype=np.int64)),
        lengths=torch.from_numpy(np.concatenate(lengths)),
    )


def stacked(table: pa.Table, names: tuple[str, ...]) -> Tensor:
    """Stack float columns side by side; null becomes NaN."""
    matrix = torch.empty(table.num_rows, len(names))
    for i, name in enumerate(names):
        matrix[:, i] = torch.from_numpy(numpy(table, name).astype(np.float32))
    return matrix


def numpy(table: pa.Table, name: str) -> npt.NDArray[np.generic]:
    """One column as NumPy."""
    return single_array(table[name]).to_numpy(zero_copy_only=False)


def blank(layout: BatchLayout) -> Batch:
    """One row of no weight and without known labels: what a worker without rows contributes to a collective step."""
    ids = {key: pa.array([0], pa.int32()) for key in layout.pooled + layout.events}
    floats = {name: pa.array([0.0], pa.float32()) for name in layout.dense}
    labels = {name: pa.array([None], pa.float32()) for name in layout.labels}
    batch = collate(pa.table(ids | floats | labels | {GROUP: pa.array([0], pa.int64())}), layout)
    batch.weights_B = torch.zeros(1)
    return batch
