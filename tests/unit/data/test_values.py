import datetime
import decimal
import math
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.data.values import (
    FeatureError,
    array,
    as_float32,
    as_numbers,
    as_text,
    distinct_texts,
    first_where,
    single_array,
)


def texts(values: Any) -> list[Any]:
    return as_text(values if isinstance(values, pa.Array) else array(values), "x").to_pylist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7, None], ["7", None]),
        ([7.0, 7.5, -0.0, 1e15], ["7", "7.5", "0", "1000000000000000"]),
        ([math.nan, math.inf, -math.inf], [None, None, None]),
        (["7", "", "a b", "ä"], ["7", None, "a b", "ä"]),
        ([True, False, None], ["true", "false", None]),
        ([None, None], [None, None]),
        ([], []),
        ([7, "7", None, 7.0, True, ""], ["7", "7", None, "7", "true", None]),
        ([True, 1.5], ["true", "1.5"]),
        ([2**53 + 1, 0.5], ["9007199254740993", "0.5"]),
        ([2**63, -(2**70)], ["9223372036854775808", str(-(2**70))]),
        (["\ud800", "a"], ["?", "a"]),
    ],
)
def test_a_requests_ids_become_text(values: list[Any], expected: list[Any]) -> None:
    assert texts(values) == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([7, None], pa.int8()),
        pa.array([7, None], pa.uint64()),
        pa.array([7.0, math.nan], pa.float32()),
        pa.array(["7", ""], pa.large_string()),
        pa.array(["7", None], pa.string_view()),
        pa.array(["7", None]).dictionary_encode(),
        pa.array([7, None]).dictionary_encode(),
        pa.array([decimal.Decimal(7), None]),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_all_types_become_the_same_text(column: Any) -> None:
    assert texts(column) == ["7", None]
    found, cells = distinct_texts(column, "x")
    assert [found[cell] for cell in cells] == ["7", None]


def test_dates_are_written_as_a_request_would() -> None:
    assert texts(pa.array([datetime.date(2022, 4, 8)])) == ["2022-04-08"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1]]), "expected one value in each cell, got list<item: int64>"),
        (pa.array([{"a": 1}]), "expected one value in each cell, got struct<a: int64>"),
        (pa.array([b"\xff"]), "expected one value in each cell, got binary"),
        (pa.array([datetime.datetime(2022, 4, 8)]), r"timestamp\[us\] values are no ids"),
    ],
    ids=str,
)
def test_what_is_no_id_is_refused(column: Any, message: str) -> None:
    for read in (as_text, distinct_texts):
        with pytest.raises(FeatureError, match=f"^x: {message}"):
            read(column, "x")


CELLS = st.none() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3) | st.booleans()


@given(st.lists(CELLS, max_size=6))
def test_a_cells_text_does_not_depend_on_its_neighbours(cells: list[Any]) -> None:
    assert texts(cells) == [texts([cell])[0] for cell in cells]


@given(st.lists(st.lists(CELLS, max_size=3) | st.none(), max_size=4))
def test_nor_does_a_lists(cells: list[Any]) -> None:
    expected = [None if cell is None else texts(cell) for cell in cells]
    column = array(cells)
    if not pa.types.is_null(column.type):
        assert [None if cell.as_py() is None else texts(cell.values) for cell in column] == expected


@given(st.lists(CELLS, max_size=8))
def test_distinct_texts_are_those_of_the_cells(cells: list[Any]) -> None:
    column = array(cells)
    found, indices = distinct_texts(column, "x")
    assert [found[i] for i in indices] == texts(column)
    assert found[-1] is None


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (array([1, None, 2]), [1, math.nan, 2]),
        (array([2**53 + 1]), [2.0**53]),
        (array([1.5, math.nan, math.inf, -math.inf]), [1.5, math.nan, math.nan, math.nan]),
        (array([True, False]), [1, 0]),
        (array(["1e3", "-2", "", None, "inf"]), [1000, -2, math.nan, math.nan, math.nan]),
        (array([1, "2.5", None]), [1, 2.5, math.nan]),
        (array([None]), [math.nan]),
        (array([]), []),
        (pa.array([1, None], pa.uint8()).dictionary_encode(), [1, math.nan]),
        (pa.array(["1", ""]).dictionary_encode(), [1, math.nan]),
        (pa.array(["1", ""], pa.large_string()), [1, math.nan]),
        (pa.array([decimal.Decimal("1.25")]), [1.25]),
    ],
    ids=str,
)
def test_numbers_are_read_from_all_types(column: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(as_numbers(column, "x"), expected)


@pytest.mark.parametrize(
    ("column", "value", "row"),
    [
        (pa.array(["1", None, "2,5", "x"]), "'2,5'", 2),
        (pa.array(["1_000"]), "'1_000'", 0),
        (pa.array([" 1"]), "' 1'", 0),
        (pa.array(["1", "x"]).dictionary_encode(), "'x'", 1),
        (pa.array([[1.0], [2.0]]), r"\[1\.0\]", 0),
        (pa.array([datetime.date(2022, 4, 8)]), r"datetime\.date\(2022, 4, 8\)", 0),
    ],
    ids=str,
)
def test_the_first_cell_that_is_no_number_is_named(column: Any, value: str, row: int) -> None:
    with pytest.raises(FeatureError, match=rf"^x: {value} is not a number \(row {row + 1}\)$") as caught:
        as_numbers(column, "x")
    assert caught.value.row == row


@given(st.lists(st.sampled_from(["1", "", "2.5", "x", None]), min_size=1, max_size=40))
def test_the_named_cell_is_the_first_bad_one(cells: list[str | None]) -> None:
    if "x" in cells:
        with pytest.raises(FeatureError) as caught:
            as_numbers(pa.array(cells), "x")
        assert caught.value.row == cells.index("x")
    else:
        assert as_numbers(pa.array(cells, pa.string()), "x").size == len(cells)


def test_what_float32_cannot_hold_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"^x: the number is too large for the model \(row 3\)$"):
        as_float32(np.array([1.0, math.nan, -1e39]), "x")
    assert as_float32(np.array([3e38, math.nan]), "x").dtype == np.float32


def test_an_error_names_the_row_of_the_table_or_of_the_split() -> None:
    error = FeatureError("age", "'x' is not a number", 1233)
    assert str(error) == "age: 'x' is not a number (row 1234)"
    assert str(error.within("train", 10_000)) == "age: 'x' is not a number (train row 11,234)"
    assert error.within("train", 10_000).row == 11_233
    assert str(FeatureError("age", "wrong").within("test", 10)) == "age: wrong (test)"
    assert str(FeatureError("age", "wrong")) == "age: wrong"


def test_an_error_travels_between_processes() -> None:
    error = FeatureError("age", "wrong", 3, "train")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


@pytest.mark.parametrize("chunks", [[], [[1, 2]], [[1], [2, 3]], [[], [4]]])
def test_chunks_become_one_array(chunks: list[list[int]]) -> None:
    column = pa.chunked_array([pa.array(chunk, pa.int64()) for chunk in chunks], pa.int64())
    assert single_array(column).to_pylist() == [value for chunk in chunks for value in chunk]


@pytest.mark.parametrize(("mask", "first"), [([], None), ([False], None), ([False, True, True], 1)])
def test_the_first_hit(mask: list[bool], first: int | None) -> None:
    assert first_where(np.array(mask, bool)) == first
