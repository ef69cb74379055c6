from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.config import validate
from recsys_mtl.data.fit import fit
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import FeatureError
from tests import builders


def schema(*features: dict[str, Any], **tables: Any) -> Schema:
    tree = {
        "features": [{"entity": "user"} | feature for feature in features],
        "tasks": [{"kind": "binary", "name": "click"}],
        "tables": tables,
        "group": "g",
    }
    return validate(Schema, tree)


def sequence(*columns: dict[str, str], **fields: Any) -> dict[str, Any]:
    return {"kind": "sequence", "name": "s", "columns": columns, **fields}


ITEM = {"kind": "id", "name": "item"}
MOMENTS = schema({"kind": "number", "name": "x", "standardise": True})


def chunked(table: pa.Table, cuts: list[int]) -> list[pa.Table]:
    edges = [0, *sorted(cut % (table.num_rows + 1) for cut in cuts), table.num_rows]
    return [table.slice(start, end - start) for start, end in pairwise(edges)]


def test_values_are_counted_over_all_chunks_and_ties_are_in_the_order_of_text() -> None:
    raw = builders.raw_table(300, 5)
    _, vocabularies = fit(builders.schema(), chunked(raw, [100, 250]))
    counts = Counter("nowhere" if city is None else city for city in raw["city"].to_pylist())
    assert vocabularies["city"] == sorted(counts, key=lambda city: (-counts[city], city))
    hours = Counter(str(hour) for hour in raw["hour"].to_pylist())
    assert vocabularies["hour"] == sorted(hours, key=lambda hour: (-hours[hour], hour))


def test_a_minimum_count_means_impressions_where_a_single_feature_reads_the_table() -> None:
    world = schema(
        ITEM, sequence({"name": "seen", "table": "item"}), item={"encoding": {"min_count": 2, "kind": "vocabulary"}}
    )
    raw = pa.table({"item": ["a", "a", "b"], "seen": [["b", "b", "c"], ["c", "c"], ["b"]]})
    assert fit(world, [raw])[1] == {"item": ["a"]}


def test_bags_are_counted_beside_single_ids() -> None:
    world = schema(ITEM, {"kind": "ids", "name": "bag", "table": "item", "separator": ","})
    raw = pa.table({"item": ["a", "b", None], "bag": ["b,b", None, "c,,"]})
    assert fit(world, [raw])[1] == {"item": ["b", "a", "c"]}


def test_a_table_of_sequences_alone_is_counted_in_these_once_per_event() -> None:
    world = schema(
        sequence({"name": "first", "table": "t"}, {"name": "second", "table": "t"}, max_length=1),
        t={"encoding": {"kind": "vocabulary", "min_count": 3}},
    )
    raw = pa.table({"first": [["a", "b"], ["a"]], "second": [["a", "b"], None]})
    assert fit(world, [raw])[1] == {"t": ["a"]}  # b is there twice


def test_hashed_tables_have_no_vocabulary_but_rows() -> None:
    spec, vocabularies = fit(
        schema(ITEM, item={"encoding": {"kind": "hash", "buckets": 10}}), [pa.table({"item": ["a"]})]
    )
    assert vocabularies == {}
    assert spec.rows == {"item": 12}


@given(
    st.lists(st.floats(-1e3, 1e3) | st.none(), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=3),
    st.booleans(),
)
def test_moments_are_numpys_whatever_the_chunks(cells: list[float | None], cuts: list[int], log1p: bool) -> None:
    number = {"kind": "number", "name": "x", "standardise": True, "default": 5, "clip": [-500, 500], "log1p": log1p}
    spec, _ = fit(schema(number), chunked(pa.table({"x": pa.array(cells, pa.float64())}), cuts))
    values = np.clip([5.0 if cell is None else cell for cell in cells], -500, 500)
    values = np.sign(values) * np.log1p(np.abs(values)) if log1p else values
    mean, deviation = spec.moments["x"]
    assert mean == pytest.approx(values.mean(), abs=1e-9)
    if deviation != 1.0:
        assert deviation == pytest.approx(values.std(), rel=1e-6)
    else:
        assert values.std() == pytest.approx(1.0, rel=1e-6) or values.std() <= 1e-9 * np.abs(values).max()


def test_large_numbers_that_differ_little_keep_their_deviation() -> None:
    times = 1.65e12 + np.arange(1000.0)
    spec, _ = fit(MOMENTS, chunked(pa.table({"x": times}), [10, 500]))
    assert spec.moments["x"] == pytest.approx((times.mean(), np.arange(1000.0).std()), rel=1e-9)


def test_small_numbers_keep_their_deviation() -> None:
    rates = np.array([1e-9, 3e-9])
    assert fit(MOMENTS, [pa.table({"x": rates})])[0].moments["x"] == pytest.approx((2e-9, 1e-9), rel=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
def test_a_constant_has_deviation_1(constant: float) -> None:
    spec, _ = fit(MOMENTS, chunked(pa.table({"x": [constant] * 100}), [33]))
    mean, deviation = spec.moments["x"]
    assert mean == pytest.approx(constant)
    assert deviation == 1.0


def test_numbers_that_no_model_can_hold_are_refused() -> None:
    with pytest.raises(FeatureError, match=r"^x: the number is too large for the model \(row 2\)$"):
        fit(MOMENTS, [pa.table({"x": [1.0, 1e200]})])
