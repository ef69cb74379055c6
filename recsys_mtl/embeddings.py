"""Embeddings: ids to vectors. The only module whose parameters are sharded over workers."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, EmbeddingCollection, EmbeddingConfig, PoolingType
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedTensor

from recsys_mtl.data.batch import Batch, BatchLayout, event_tables
from recsys_mtl.data.feature_kinds import IdFeature, IdPart, IdsFeature, NumberFeature, Part, SequenceFeature, table_of
from recsys_mtl.data.schema import id_parts, target_of
from recsys_mtl.data.spec import Spec
from recsys_mtl.features import FeatureLayout, Features, Field, Sequence, SequenceColumn
from recsys_mtl.histories import mean_of_rows, sum_of_rows


class Embeddings(nn.Module):
    """Looks up every id of a batch.

    Tables that some sequence reads give one vector per id (`EmbeddingCollection`, one per width, as torchrec wants);
    all others give one pooled vector per row and feature (`EmbeddingBagCollection`).
    """

    def __init__(self, spec: Spec, device: torch.device | None = None) -> None:
        super().__init__()
        batch = BatchLayout.of(spec, ())
        self.keys = list(batch.pooled)
        bags = _bag_configs(spec)
        self.pooled = EmbeddingBagCollection(bags, device=device, is_weighted=False) if bags else None
        self.events = nn.ModuleDict(
            {f"dim{dim}": EmbeddingCollection(configs, device=device) for dim, configs in _event_configs(spec).items()}
        )
        self.sequences = [f for f in spec.features if isinstance(f, SequenceFeature)]
        self.singles = [f for f in spec.features if isinstance(f, IdFeature | IdsFeature) and f.name in batch.events]

    def forward(self, batch: Batch) -> Features:
        """Return the batch's features in the order of `feature_layout`."""
        # Sharded collections answer with promises: all are asked before the first answer is waited for.
        pooled = self.pooled(batch.pooled) if self.pooled is not None else None
        answers = [collection(batch.events) for collection in self.events.values()]
        vectors: dict[str, JaggedTensor] = {name: vector for answer in answers for name, vector in answer.items()}
        fields = [_pool(feature, vectors[feature.name]) for feature in self.singles]
        if pooled is not None:
            # The order of a KeyedTensor's keys depends on the sharding plan, so features are always taken by name.
            fields = [*KeyedTensor.regroup([pooled], [self.keys]), *fields]
        histories = [[vectors[column.name] for column in feature.columns] for feature in self.sequences]
        return Features(
            fields_BX=torch.cat(fields, dim=1) if fields else batch.dense_BC.new_empty(len(batch), 0),
            dense_BC=batch.dense_BC,
            sequences=tuple(torch.cat([column.values() for column in columns], dim=1) for columns in histories),
            lengths=tuple(columns[0].lengths() for columns in histories),
        )

    def __call__(self, batch: Batch) -> Features:
        return super().__call__(batch)  # type: ignore[no-any-return]


def feature_layout(spec: Spec) -> FeatureLayout:
    """Describe what `Embeddings` returns: pooled fields first, then those that share a table with a sequence."""
    batch = BatchLayout.of(spec, ())
    fields, sequences = {}, []
    for feature in spec.features:
        if isinstance(feature, SequenceFeature):
            columns = tuple(SequenceColumn(spec.table(table_of(c)).dim, target_of(c, spec)) for c in feature.columns)
            sequences.append(Sequence(feature.name, columns, feature.max_length))
        elif isinstance(feature, IdFeature | IdsFeature):
            fields[feature.name] = Field(feature.name, spec.table(table_of(feature)).dim, feature.entity)
        elif feature.boundaries is not None:
            fields[feature.name] = Field(feature.name, feature.dim, feature.entity)
    order = batch.pooled + tuple(name for name in batch.events if name in fields)
    return FeatureLayout(tuple(fields[name] for name in order), tuple(sequences), len(batch.dense))


def _bag_configs(spec: Spec) -> list[EmbeddingBagConfig]:
    """Configurations of the tables that no sequence reads; a bucketed number has one to itself."""
    unpooled = event_tables(spec)
    shared = [_bag(t, spec.table(t).dim, parts, spec) for t, parts in _readers(spec).items() if t not in unpooled]
    buckets = [f for f in spec.features if isinstance(f, NumberFeature) and f.boundaries is not None]
    return [*shared, *(_bag(feature.name, feature.dim, [feature], spec) for feature in buckets)]


def _bag(table: str, dim: int, parts: Collection[Part], spec: Spec) -> EmbeddingBagConfig:
    # One pooling for all readers of a table: the mean of a feature's single id is that id's vector.
    mean = any(isinstance(part, IdsFeature) and part.pooling == "mean" for part in parts)
    return EmbeddingBagConfig(
        name=table,
        embedding_dim=dim,
        num_embeddings=spec.rows[table],
        feature_names=[part.name for part in parts],
        pooling=PoolingType.MEAN if mean else PoolingType.SUM,
    )


def _event_configs(spec: Spec) -> dict[int, list[EmbeddingConfig]]:
    """Configurations of the tables that sequences read, by width."""
    readers = _readers(spec)
    by_dim: dict[int, list[EmbeddingConfig]] = {}
    for table in sorted(event_tables(spec)):
        dim, names = spec.table(table).dim, [part.name for part in readers[table]]
        config = EmbeddingConfig(name=table, embedding_dim=dim, num_embeddings=spec.rows[table], feature_names=names)
        by_dim.setdefault(dim, []).append(config)
    return by_dim


def _readers(spec: Spec) -> dict[str, list[IdPart]]:
    """What looks ids up in each shared table."""
    readers: dict[str, list[IdPart]] = {}
    for _, part in id_parts(spec):
        readers.setdefault(table_of(part), []).append(part)
    return readers


def _pool(feature: IdFeature | IdsFeature, vectors: JaggedTensor) -> Tensor:
    """One vector per row (B, D) of a feature whose ids were looked up one by one."""
    values_ND: Tensor = vectors.values()
    if isinstance(feature, IdFeature):
        return values_ND
    pool = mean_of_rows if feature.pooling == "mean" else sum_of_rows
    return pool(values_ND, vectors.lengths())
