"""Embeddings against rows of their tables, looked up by name."""

from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.batch import BatchLayout, collate
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.spec import Spec
from recsys_mtl.embeddings import Embeddings, feature_layout
from recsys_mtl.features import Features
from recsys_mtl.model import ModelConfig
from tests.unit.tables import (
    AGE,
    ALL,
    AUTHOR,
    DIMS,
    DURATION,
    HISTORY,
    IDS,
    ITEM,
    LIKES,
    LOVED_TAG,
    PINNED,
    ROWS,
    TAGS,
    USER,
    batch_of,
    spec_of,
)


def look_up(spec: Spec) -> tuple[Embeddings, Features, dict[str, Tensor]]:
    """The module, what it says to the batch, and its tables by name."""
    torch.manual_seed(0)
    embeddings = Embeddings(spec)
    tables = {name.split(".")[-2]: weight for name, weight in embeddings.state_dict().items()}
    assert tables.keys() == spec.rows.keys()
    return embeddings, embeddings(batch_of(spec)), tables


def pooled(table: Tensor, bags: list[list[int]], pooling: str) -> Tensor:
    rows = [sum((table[i] for i in bag), torch.zeros(table.shape[1])) for bag in bags]
    return torch.stack(
        [row / max(len(bag), 1) if pooling == "mean" else row for row, bag in zip(rows, bags, strict=True)]
    )


def fields(spec: Spec, features: Features) -> dict[str, Tensor]:
    """Each field's part, found by the layout."""
    layout = feature_layout(spec)
    assert features.fields_BX.shape == (ROWS, layout.fields_dim)
    return {name: features.fields_BX[:, part] for name, part in layout.slices().items()}


def test_every_id_is_the_row_of_its_table() -> None:
    spec = spec_of(*ALL)
    _, features, tables = look_up(spec)
    found = fields(spec, features)
    expected = {
        "user": tables["user"][IDS["user"]],
        "item": tables["video"][IDS["item"]],
        "author": tables["author"][IDS["author"]],
        "loved_tag": tables["tag"][IDS["loved_tag"]],
        "age": tables["age"][IDS["age"]],
        "tags": pooled(tables["tag"], IDS["tags"], "mean"),
        "topics": pooled(tables["topic"], IDS["topics"], "sum"),
        "pinned": pooled(tables["video"], IDS["pinned"], "mean"),
    }
    assert found.keys() == expected.keys()
    for name, vectors_BD in expected.items():
        assert torch.allclose(found[name], vectors_BD), name


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("others", [(), (ITEM, HISTORY, AUTHOR)], ids=["own-table", "table-of-a-sequence"])
def test_bags_are_pooled_as_configured_whoever_reads_their_table(others: Any, pooling: str) -> None:
    spec = spec_of(PINNED, *others, pooling=pooling)
    _, features, tables = look_up(spec)
    found = fields(spec, features)["pinned"]
    torch.testing.assert_close(found, pooled(tables["video"], IDS["pinned"], pooling))
    assert torch.equal(found[0], torch.zeros(DIMS["video"])), "an empty bag"


def test_an_id_beside_a_mean_bag_is_its_row() -> None:
    spec = spec_of(TAGS, LOVED_TAG)
    _, features, tables = look_up(spec)
    torch.testing.assert_close(fields(spec, features)["loved_tag"], tables["tag"][IDS["loved_tag"]])


def test_a_sequence_is_its_events_in_order() -> None:
    spec = spec_of(*ALL)
    _, features, tables = look_up(spec)
    (history_ND, likes_ND), (history_B, likes_B) = features.sequences, features.lengths
    assert history_B.tolist() == [4, 0, 1]
    assert likes_B.tolist() == [2, 1, 0]
    expected = [
        torch.cat([tables["video"][video], tables["author"][author]])
        for b in range(ROWS)
        for video, author in zip(IDS["history_video"][b], IDS["history_author"][b], strict=True)
    ]
    torch.testing.assert_close(history_ND, torch.stack(expected))
    torch.testing.assert_close(likes_ND, tables["video"][[*IDS["likes_video"][0], 4]])


def test_sequences_may_all_be_empty() -> None:
    spec = spec_of(ITEM, LIKES)
    empty = pa.table({"item": pa.array([1, 2], pa.int32()), "likes_video": pa.array([[], []], pa.list_(pa.int32()))})
    features = Embeddings(spec)(collate(empty, BatchLayout.of(spec, ())))
    assert [e_ND.shape for e_ND in features.sequences] == [(0, DIMS["video"])]
    assert [length_B.tolist() for length_B in features.lengths] == [[0, 0]]


def test_columns_know_their_counterpart_in_the_candidate() -> None:
    spec = spec_of(USER, HISTORY, ITEM, LIKES)
    history, likes = feature_layout(spec).sequences
    assert [(c.dim, c.target) for c in history.columns] == [(6, "item"), (2, None)]
    assert (history.name, history.max_length, history.dim) == ("history", 4, 8)
    assert [(c.dim, c.target) for c in likes.columns] == [(6, "item")]


def test_numbers_stay_as_they_are() -> None:
    spec = spec_of(*ALL)
    _, features, _ = look_up(spec)
    assert features.dense_BC.tolist() == [[0.5], [-1.0], [2.0]]
    assert feature_layout(spec).num_dense == 1


class Reversed(nn.Module):
    """Tables whose answer has its features in another order, as a sharded one may have."""

    def __init__(self, pooled: nn.Module) -> None:
        super().__init__()
        self.pooled = pooled

    def forward(self, ids: KeyedJaggedTensor) -> KeyedTensor:
        answer = self.pooled(ids)
        parts = dict(reversed(answer.to_dict().items()))
        widths = [part.shape[1] for part in parts.values()]
        return KeyedTensor(keys=list(parts), length_per_key=widths, values=torch.cat(list(parts.values()), dim=1))


def test_features_are_found_by_name_whatever_their_order() -> None:
    spec = spec_of(*ALL)
    embeddings, features, _ = look_up(spec)
    assert embeddings.pooled is not None
    order = embeddings.pooled(batch_of(spec).pooled).keys()
    embeddings.pooled = Reversed(embeddings.pooled)
    assert embeddings.pooled(batch_of(spec).pooled).keys() == order[::-1] != order
    assert torch.equal(embeddings(batch_of(spec)).fields_BX, features.fields_BX)


def test_every_reader_of_a_table_trains_it() -> None:
    spec = spec_of(*ALL)
    torch.manual_seed(0)
    embeddings = Embeddings(spec)
    features = embeddings(batch_of(spec))
    loss = features.fields_BX.sum() + torch.stack([e_ND.sum() for e_ND in features.sequences]).sum()
    weights = dict(embeddings.named_parameters())
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    (video,) = (gradient for name, gradient in gradients.items() if ".video." in name)
    touched = {1, 2, 3, 4, 5, 6, 7}  # the item, pinned, history_video and likes_video
    assert {row for row in range(len(video)) if video[row].abs().sum() > 0} == touched


@pytest.mark.parametrize(
    "features",
    [(USER, ITEM, TAGS, DURATION), (ITEM, HISTORY, AUTHOR), (USER, AGE), (DURATION,), (ITEM, LIKES, DURATION)],
    ids=["no-sequence", "no-pooled-table", "no-number", "numbers-only", "one-table"],
)
def test_a_data_set_may_lack_a_kind_of_feature(features: Any) -> None:
    spec = spec_of(*features)
    _, found, _ = look_up(spec)
    layout = feature_layout(spec)
    assert found.fields_BX.shape == (ROWS, layout.fields_dim)
    assert found.dense_BC.shape == (ROWS, layout.num_dense)
    assert len(found.sequences) == len(found.lengths) == len(layout.sequences)
    model = ModelConfig().build(spec, spec.tasks)
    assert model(batch_of(spec)).shape == (ROWS, 1)


def test_tables_may_be_made_without_memory() -> None:
    embeddings = Embeddings(spec_of(*ALL), torch.device("meta"))
    assert all(weight.is_meta for weight in embeddings.state_dict().values())


def test_a_width_that_torchrec_cannot_look_up_is_refused() -> None:
    tree = {"features": [USER], "tasks": [{"kind": "binary", "name": "click"}], "group": "user"}
    with pytest.raises(ConfigError, match=r"tables\.user\.dim: .*1024"):
        validate(Schema, tree | {"tables": {"user": {"dim": 1025}}})
