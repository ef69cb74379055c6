"""Cells encoded one by one against the encoder of whole columns."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.values import FeatureError, array
from recsys_mtl.inference import CellEncoder, Encoded, Side
from tests import builders

IDS = st.one_of(
    st.none(), st.integers(-3, 70), st.integers(-(2**63), 2**64 - 1), st.text(max_size=4),
    st.sampled_from(["", "7", "city-1", "tag-3", "nowhere", "\ud800", "é"]),
)  # fmt: skip
NUMBERS = st.one_of(
    st.none(), st.floats(-1e30, 1e30), st.integers(-100, 100), st.sampled_from([18.0, 30.0, 0.0, 2.0**60])
)
LISTS = st.one_of(st.none(), st.lists(IDS, max_size=9))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    data = tmp_path_factory.mktemp("cells") / "data"
    builders.prepared(data)
    return Encoder.load(data)


def columns(cells: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, list[Any]]]:
    """Columns of equal length, each of which may be absent."""

    def sized(rows: int) -> st.SearchStrategy[dict[str, list[Any]]]:
        lists = {name: st.lists(cell, min_size=rows, max_size=rows) for name, cell in cells.items()}
        return st.fixed_dictionaries({}, optional=lists)

    return st.integers(1, 6).flatmap(sized).filter(bool)


def both(encoder: Encoder, cells: dict[str, list[Any]], *, candidates: bool) -> tuple[Encoded, Encoded]:
    side, rows = Side.of(encoder.spec, candidates=candidates), len(next(iter(cells.values())))
    raw = pa.table({name: array(column) for name, column in cells.items()})
    return CellEncoder(encoder, side).encode(cells, rows), Encoded.of(encoder.encode(raw), side, raw)


def assert_same(actual: Encoded, expected: Encoded) -> None:
    np.testing.assert_array_equal(actual.singles_FB, expected.singles_FB)
    np.testing.assert_array_equal(actual.dense_CB, expected.dense_CB)
    np.testing.assert_array_equal(actual.empty_CB, expected.empty_CB)
    assert len(actual.lists) == len(expected.lists)
    for ours, theirs in zip(actual.lists, expected.lists, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


@given(cells=columns({"video": IDS, "author": IDS, "tags": LISTS, "duration": NUMBERS, "quality": NUMBERS}))
def test_candidates_are_encoded_as_columns_are(encoder: Encoder, cells: dict[str, list[Any]]) -> None:
    assert_same(*both(encoder, cells, candidates=True))


@given(
    cells=columns({"user": IDS, "city": IDS, "age": NUMBERS, "hour": IDS}),
    events=st.lists(st.tuples(IDS, IDS), max_size=9),
)
def test_the_head_is_encoded_as_columns_are(encoder: Encoder, cells: dict[str, list[Any]], events: Any) -> None:
    head = {name: column[:1] for name, column in cells.items()}
    head |= {"history_item": [[item for item, _ in events]], "history_author": [[author for _, author in events]]}
    assert_same(*both(encoder, head, candidates=False))


def test_columns_of_a_sequence_must_match(encoder: Encoder) -> None:
    side = Side.of(encoder.spec, candidates=False)
    cells = {"history_item": [[1, 2]], "history_author": [[1]]}
    with pytest.raises(FeatureError, match="history_author: 1 events where history_item has 2"):
        CellEncoder(encoder, side).encode(cells, 1)


def test_a_number_beyond_float32_is_refused_with_its_place(encoder: Encoder) -> None:
    side = Side.of(encoder.spec, candidates=True)
    with pytest.raises(FeatureError, match=r"quality: the number is too large for the model \(row 2\)"):
        CellEncoder(encoder, side).encode({"quality": [1.0, 1e39], "duration": [1.0, 2.0]}, 2)


def test_rows_can_be_taken(encoder: Encoder) -> None:
    raw = builders.raw_table(12, 0)
    side, rows = Side.of(encoder.spec, candidates=True), np.array([7, 0, 7, 11])
    taken = Encoded.of(encoder.encode(raw), side).take(rows)
    assert_same(taken, Encoded.of(encoder.encode(raw.take(rows)), side))


def test_unknown_and_missing_values_are_counted(encoder: Encoder) -> None:
    side = Side.of(encoder.spec, candidates=True)
    cells: dict[str, list[Any]] = {"video": [1, None, "new"], "tags": [["tag-1"], [None, "tag-2"], None]}
    cells["duration"] = [1.5, None, 0]
    counts = dict(zip(side.names, CellEncoder(encoder, side).encode(cells, 3).counts().tolist(), strict=True))
    assert counts == {
        "item": [3, 1, 1], "author": [3, 0, 3], "tags": [3, 0, 1], "duration": [3, 0, 1], "quality": [3, 0, 3],
    }  # fmt: skip
