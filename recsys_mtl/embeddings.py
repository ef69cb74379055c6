"""Embeddings: ids to vectors. The only module whose parameters are sharded over workers."""

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, EmbeddingCollection, EmbeddingConfig, PoolingType
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedTensor

from recsys_mtl.data.batch import Batch, BatchLayout, event_tables
from recsys_mtl.data.schema import (
    IdFeature,
    IdsFeature,
    NumberFeature,
    SequenceFeature,
    table_of,
    target_of,
)
from recsys_mtl.data.spec import Spec
from recsys_mtl.features import FeatureLayout, Features, Field, Sequence, SequenceColumn


class Embeddings(nn.Module):
    """Looks up every id of a batch.

    Tables that some sequence reads give one vector per id (`EmbeddingCollection`, one per width, as torchrec wants);
    all others give one pooled vector per row and feature (`EmbeddingBagCollection`).
    """

    def __init__(self, spec: Spec, device: torch.device | None = None) -> None:
        super().__init__()
        batch = BatchLayout.of(spec, ())
        self.keys = list(batch.pooled)
        self.pooled = EmbeddingBagCollection(_bag_configs(spec), device=device, is_weighted=False) if self.keys else None
        self.events = nn.ModuleDict(
            {f"dim{dim}": EmbeddingCollection(configs, device=device) for dim, configs in _event_configs(spec).items()}
        )
        self.sequences = [f for f in spec.features if isinstance(f, SequenceFeature)]
        self.singles = [f for f in spec.features if isinstance(f, IdFeature | IdsFeature) and f.name in batch.events]

    def forward(self, batch: Batch) -> Features:
        """Return the batch's features in the order of `feature_layout`."""
        vectors: dict[str, JaggedTensor] = {}
        for collection in self.events.values():
            vectors |= dict(collection(batch.events).items())
        fields = [_pool(feature, vectors[feature.name], len(batch)) for feature in self.singles]
        if self.pooled is not None:
            # The order of a KeyedTensor's keys depends on the sharding plan, so features are always taken by name.
            fields.insert(0, KeyedTensor.regroup([self.pooled(batch.pooled)], [self.keys])[0])
        padded = [_padded(feature, vectors) for feature in self.sequences]
        return Features(
            fields_BX=torch.cat(fields, dim=1),
            dense_BC=batch.dense_BC,
            sequences=tuple(e_BLD for e_BLD, _ in padded),
            lengths=tuple(length_B for _, length_B in padded),
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
    unpooled = event_tables(spec)
    configs: dict[str, EmbeddingBagConfig] = {}
    for feature in spec.features:
        if isinstance(feature, NumberFeature) and feature.boundaries is not None:
            configs[feature.name] = _bag(feature.name, feature.dim, spec)
            configs[feature.name].feature_names.append(feature.name)
        elif isinstance(feature, IdFeature | IdsFeature) and table_of(feature) not in unpooled:
            table = table_of(feature)
            config = configs.setdefault(table, _bag(table, spec.table(table).dim, spec))
            config.feature_names.append(feature.name)
            if isinstance(feature, IdsFeature) and feature.pooling == "mean":
                config.pooling = PoolingType.MEAN  # the same for features with one id, whose mean is the id's vector
    return list(configs.values())


def _bag(table: str, dim: int, spec: Spec) -> EmbeddingBagConfig:
    return EmbeddingBagConfig(
        name=table, embedding_dim=dim, num_embeddings=spec.rows[table], feature_names=[], pooling=PoolingType.SUM
    )


def _event_configs(spec: Spec) -> dict[int, list[EmbeddingConfig]]:
    """Configurations of the tables that sequences read, by width."""
    readers: dict[str, list[str]] = {table: [] for table in sorted(event_tables(spec))}
    for feature in spec.features:
        parts = feature.columns if isinstance(feature, SequenceFeature) else (feature,)
        for part in parts:
            if not isinstance(part, NumberFeature) and table_of(part) in readers:
                readers[table_of(part)].append(part.name)
    by_dim: dict[int, list[EmbeddingConfig]] = {}
    for table, names in readers.items():
        dim = spec.table(table).dim
        config = EmbeddingConfig(
            name=table, embedding_dim=dim, num_embeddings=spec.rows[table], feature_names=names
        )
        by_dim.setdefault(dim, []).append(config)
    return by_dim


def _pool(feature: IdFeature | IdsFeature, vectors: JaggedTensor, rows: int) -> Tensor:
    """One vector per row (B, D) of a feature whose ids were looked up one by one."""
    if isinstance(feature, IdFeature):
        return vectors.values()
    lengths = vectors.lengths().long()
    owner = torch.repeat_interleave(torch.arange(rows, device=lengths.device), lengths)
    values = vectors.values()
    pooled_BD = values.new_zeros(rows, values.shape[1]).index_add(0, owner, values)
    return pooled_BD / lengths.clamp(min=1).unsqueeze(1) if feature.pooling == "mean" else pooled_BD


def _padded(feature: SequenceFeature, vectors: dict[str, JaggedTensor]) -> tuple[Tensor, Tensor]:
    """Events of a sequence (B, L, D), all columns side by side, and their number (B,)."""
    columns = [vectors[column.name] for column in feature.columns]
    lengths = columns[0].lengths()
    values = torch.cat([column.values() for column in columns], dim=1)
    events = JaggedTensor(values=values, lengths=lengths)
    return events.to_padded_dense(feature.max_length), lengths
