import math

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.data.schema import MISSING_ID, UNKNOWN_ID
from recsys_mtl.data.values import FeatureError
from tests.unit.data.worlds import encoded, encoder


def test_a_bag_keeps_the_first_values_and_a_sequence_the_most_recent_events() -> None:
    features = (
        {"kind": "ids", "name": "bag", "column": "x", "table": "t", "max_length": 2},
        {"kind": "sequence", "name": "s", "max_length": 2, "columns": [
            {"name": "e", "column": "x", "table": "t"}, {"name": "f", "column": "y", "table": "u"}]},
    )  # fmt: skip
    made = encoder({"x": [["a", "b", "c", "d"]], "y": [["p", "q", "r", "s"]]}, *features)
    table = made.encode(pa.table({"x": [["a", "b", "c"], [], ["d"]], "y": [["p", "q", "r"], None, ["z"]]}))
    assert table.to_pydict() == {
        "bag": [[2, 3], [], [5]],
        "e": [[3, 4], [], [5]],
        "f": [[3, 4], [], [UNKNOWN_ID]],
    }


def test_columns_of_a_sequence_must_be_aligned() -> None:
    parts = [{"name": "a"}, {"name": "b", "column": "y"}]
    made = encoder({"a": [[1]], "y": [[1]]}, {"kind": "sequence", "name": "s", "columns": parts, "max_length": 1})
    message = r"^y: 3 events where a has 2; a sequence's columns are aligned \(row 2\)$"
    with pytest.raises(FeatureError, match=message) as caught:
        made.encode(pa.table({"a": [[1], [1, 2], [1]], "y": [[1], [1, 2, 3], [1, 2]]}))
    assert (caught.value.column, caught.value.row) == ("y", 1)


def test_text_is_split_where_a_separator_is_named() -> None:
    features = (
        {"kind": "ids", "name": "bag", "column": "x", "separator": ","},
        {"kind": "sequence", "name": "s", "separator": "|", "columns": [{"name": "e"}]},
    )
    made = encoder({"x": ["a,b"], "e": ["1|2"]}, *features)
    table = made.encode(pa.table({"x": ["b,a,", None, "a"], "e": ["2|1", "", "1,2"]}))
    assert table.to_pydict() == {"bag": [[3, 2, MISSING_ID], [], [2]], "e": [[3, 2], [], [UNKNOWN_ID]]}


def test_text_without_a_separator_is_refused() -> None:
    made = encoder({"x": [["a"]]}, {"kind": "ids"})
    with pytest.raises(FeatureError, match=r"^x: expected a list of values; for text, name the feature's separator$"):
        made.encode(pa.table({"x": ["a,b"]}))


def test_a_list_where_one_value_is_expected_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"^x: expected one value in each cell, got list<.*>$"):
        encoder({"x": ["a"]}).encode(pa.table({"x": [["a"]]}))


def test_a_value_on_a_boundary_belongs_to_the_bucket_above() -> None:
    made = encoder({"x": [1.0]}, {"kind": "number", "boundaries": [0, 10]})
    cells = [-0.1, 0.0, 9.9, 10.0, 1e300, None, math.nan, math.inf]
    assert encoded(made, x=cells) == [2, 3, 3, 4, 4, MISSING_ID, MISSING_ID, MISSING_ID]
    assert made.spec.rows["x"] == 5


def test_numbers_are_filled_then_clipped_then_scaled() -> None:
    number = {"kind": "number", "default": 50, "clip": [-5, 20], "log1p": True}
    cells = [3.0, 100.0, None, -3.0, -100.0, math.inf]
    expected = [math.log(4), math.log(21), math.log(21), -math.log(4), -math.log(6), math.log(21)]
    np.testing.assert_allclose(encoded(encoder({"x": cells}, number), x=cells), expected, rtol=1e-6)


def test_text_in_a_column_of_numbers_is_named_with_its_row() -> None:
    with pytest.raises(FeatureError, match=r"^x: 'tall' is not a number \(row 2\)$"):
        encoder({"x": [1.0]}, {"kind": "number"}).encode(pa.table({"x": ["1", "tall"]}))


def test_a_number_beyond_float32_is_refused_unless_a_transform_tames_it() -> None:
    with pytest.raises(FeatureError, match=r"^x: the number is too large for the model \(row 2\)$"):
        encoder({"x": [1.0]}, {"kind": "number"}).encode(pa.table({"x": [1.0, 1e39]}))
    assert encoded(encoder({"x": [1.0]}, {"kind": "number", "clip": [0, 9]}), x=[1e39]) == [9]
