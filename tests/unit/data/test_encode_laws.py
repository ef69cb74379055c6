"""Laws of the encoder: requests and columns get the same ids, and every id has a row."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.feature_kinds import IdsFeature, NumberFeature, Part, SequenceFeature, parts_of, table_of
from recsys_mtl.data.fit import fit
from recsys_mtl.data.schema import UNKNOWN_ID
from recsys_mtl.data.stats import flat_ids
from recsys_mtl.data.values import array, as_text, single_array
from tests import builders
from tests.unit.data.worlds import HASHED, encoder

TYPES = {str(dtype): dtype for dtype in (pa.int64(), pa.uint8(), pa.float64(), pa.float32(), pa.string(), pa.bool_())}
IDS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-3, 3),
    "uint8": st.integers(0, 5),
    "double": st.floats(-2, 2, width=16) | st.sampled_from([math.nan, math.inf, 1e300, 2.0**60]),
    "float": st.floats(-2, 2, width=16) | st.sampled_from([math.nan, math.inf]),
    "string": st.sampled_from(["", "1", "1.0", "a", "ä", " "]),
    "bool": st.booleans(),
}


@st.composite
def columns(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(sorted(IDS)))
    cells = draw(st.lists(IDS[kind] | st.none(), min_size=1, max_size=8))
    column: Any = pa.array(cells, TYPES[kind])
    return column.dictionary_encode() if draw(st.booleans()) else column


@given(columns())
def test_requests_get_the_ids_of_columns(column: Any) -> None:
    tables = {"hashed": HASHED}
    features: tuple[dict[str, Any], ...] = (
        {},
        {"name": "d", "column": "x", "default": "none"},
        {"name": "hashed", "column": "x"},
    )
    made = encoder({"x": column}, *features, tables=tables)
    offline = made.encode(pa.table({"x": column}))
    cells = column.to_pylist()
    assert made.encode(pa.table({"x": array(cells)})) == offline
    one_by_one = [made.encode(pa.table({"x": array([cell])})) for cell in cells]
    assert pa.concat_tables(one_by_one).to_pydict() == offline.to_pydict()
    known = {
        row for cell, row in zip(cells, offline["x"].to_pylist(), strict=True) if cell == cell and cell is not None
    }
    assert UNKNOWN_ID not in known


@given(st.lists(st.lists(IDS["double"] | st.none(), max_size=4) | st.none(), min_size=1, max_size=5))
def test_requests_get_the_ids_of_columns_of_lists(cells: list[Any]) -> None:
    column = pa.array(cells, pa.list_(pa.float64()))
    features: tuple[dict[str, Any], ...] = (
        {"kind": "ids", "max_length": 2},
        {"kind": "sequence", "name": "s", "max_length": 3, "columns": [{"name": "e", "column": "x"}]},
    )
    made = encoder({"x": column}, *features)
    offline = made.encode(pa.table({"x": column})).to_pydict()
    assert made.encode(pa.table({"x": array(cells)})).to_pydict() == offline
    texts = [None if cell is None else as_text(pa.array(cell, pa.float64()), "x").to_pylist() for cell in cells]
    assert made.encode(pa.table({"x": array(texts)})).to_pydict() == offline


@given(st.lists(st.floats() | st.none() | st.integers(-5, 5), min_size=1, max_size=6))
def test_requests_get_the_numbers_of_columns(cells: list[float | None]) -> None:
    features: list[dict[str, Any]] = [
        {"kind": "number", "name": "b", "column": "x", "boundaries": [-1, 0, 2.5]},
        {
            "kind": "number",
            "name": "s",
            "column": "x",
            "clip": [-10, 10],
            "default": 1,
            "log1p": True,
            "standardise": True,
        },
    ]
    column = pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    made = encoder({"x": column}, *features)
    offline = made.encode(pa.table({"x": column}))
    for row, cell in enumerate(cells):
        for request in ([cell], [None if cell is None else repr(float(cell))]):
            assert made.encode(pa.table({"x": array(request)})).to_pylist() == [offline.slice(row, 1).to_pylist()[0]]


WORLD = Encoder(*fit(builders.schema(), [builders.raw_table(60, 1)]))
ANY_ID: st.SearchStrategy[Any] = st.none() | st.integers() | st.text(max_size=3) | st.floats()
ANY_NUMBER: st.SearchStrategy[Any] = st.none() | st.floats(-1e30, 1e30) | st.integers(-(2**40), 2**40)


def exactly(count: int, cells: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(cells, min_size=count, max_size=count)


@settings(max_examples=50)
@given(st.data())
def test_every_id_is_a_row_of_its_table(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 3))
    raw: dict[str, Any] = {}
    for feature in WORLD.spec.features:
        lengths = data.draw(st.lists(st.integers(0, 7), min_size=rows, max_size=rows))
        for part in parts_of(feature):
            name = part.column or part.name
            if isinstance(feature, IdsFeature | SequenceFeature):
                cells: list[Any] = [data.draw(exactly(length, ANY_ID)) for length in lengths]
            else:
                cell = ANY_NUMBER if isinstance(feature, NumberFeature) else ANY_ID
                cells = data.draw(exactly(rows, cell))
            raw[name] = array(cells)
    table = WORLD.encode(pa.table(raw))
    for feature in WORLD.spec.features:
        for part in parts_of(feature):
            column = single_array(table[part.name])
            if pa.types.is_floating(column.type):
                assert np.isfinite(column.to_numpy()).all()
            else:
                ids = flat_ids(table, part.name)
                assert ids.dtype == np.int32
                assert all((ids >= 0) & (ids < WORLD.spec.rows[table_name(part)]))


def table_name(part: Part) -> str:
    return part.name if isinstance(part, NumberFeature) else table_of(part)
