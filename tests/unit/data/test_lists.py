from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.data.lists import as_lists, lists_of, trim
from recsys_mtl.data.values import FeatureError, array

LISTS = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


def rows(values: Any, lengths: Any) -> list[list[Any]]:
    ends = np.cumsum(lengths).tolist()
    return [values.to_pylist()[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("column", "separator", "expected"),
    [
        (pa.array([[1, 2], None, [], [3]]), None, [[1, 2], [], [], [3]]),
        (pa.array([[1], None], pa.large_list(pa.int64())), None, [[1], []]),
        (pa.array([[1, 2], [3]]).slice(1), None, [[3]]),
        (array([["a", None], [1.5]]), None, [["a", None], ["1.5"]]),
        (array([None, None]), None, [[], []]),
        (array([]), None, []),
        (pa.array(["a,b", "", None, "c", "d,,e"]), ",", [["a", "b"], [], [], ["c"], ["d", "", "e"]]),
        (pa.array(["a||b"], pa.large_string()), "||", [["a", "b"]]),
        (pa.array(["a|b", "a|b"]).dictionary_encode(), "|", [["a", "b"], ["a", "b"]]),
        (pa.array([[1], [2]]), ",", [[1], [2]]),
    ],
    ids=str,
)
def test_lists_are_flattened(column: Any, separator: str | None, expected: list[list[Any]]) -> None:
    assert rows(*as_lists(column, "x", separator)) == expected


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["a,b"]), "expected a list of values; for text, name the feature's separator"),
        (pa.array([1]), "expected a list of values, got int64"),
    ],
)
def test_what_is_no_list_is_refused(column: Any, message: str) -> None:
    with pytest.raises(FeatureError, match=f"^x: {message}$"):
        as_lists(column, "x", None)


@given(LISTS, st.integers(1, 6), st.sampled_from(["first", "last"]))
def test_trimming_cuts_every_list(lists: list[list[int]], limit: int, keep: Literal["first", "last"]) -> None:
    values, lengths = as_lists(pa.array(lists, pa.list_(pa.int64())), "x", None)
    expected = [row[:limit] if keep == "first" else row[-limit:] for row in lists]
    assert rows(*trim(values, lengths, limit, keep=keep)) == expected


@given(LISTS)
def test_lists_are_rebuilt(lists: list[list[int]]) -> None:
    flat = np.array([value for row in lists for value in row], np.int32)
    column = lists_of(flat, np.array([len(row) for row in lists], np.int64))
    assert column.type == pa.list_(pa.int32())
    assert column.to_pylist() == lists
