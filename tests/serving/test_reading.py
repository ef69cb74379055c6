"""The fast way to read requests against the careful one: what both take, they understand alike."""

from typing import Any

import numpy as np
import orjson
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.bundle import Bundle
from recsys_mtl.inference import Encoded
from serving.careful import read_carefully
from serving.errors import RequestError
from serving.fast import parsed_types
from serving.reader import Body, Question, Reader
from serving.schemas import RankRequest
from tests import builders

SCALARS = st.one_of(
    st.none(), st.integers(-3, 70), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(), st.text(max_size=4), st.sampled_from(["", "7", "city-1", "tag-3"]),
)  # fmt: skip
CELLS = st.one_of(SCALARS, st.lists(SCALARS, max_size=4))
IDS = st.one_of(st.integers(-2, 70), st.text(max_size=3), st.integers(2**63 - 1, 2**64 - 1))


def part(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, CELLS))


REQUESTS = st.fixed_dictionaries(
    {
        "user": part("user", "user_id", "city", "age", "history_item", "history_author"),
        "candidates": st.lists(
            st.builds(
                lambda item_id, cells: {"item_id": item_id, **cells},
                IDS,
                part("video", "author", "tags", "duration", "quality"),
            ),
            min_size=1,
            max_size=4,
        ),
    },
    optional={"context": part("hour"), "top_k": st.integers(1, 3), "fusion": st.none() | st.just("default")},
)


@pytest.fixture(scope="module")
def reader(bundle: Bundle) -> Reader:
    return Reader(bundle.encoder)


def read(reader: Reader, body: bytes) -> Question:
    return reader.read(Body(body, RankRequest), 100)


def carefully(reader: Reader, body: bytes) -> Question:
    return reader.carefully(read_carefully(body, RankRequest))


def outcome(read: Any, *args: Any) -> Any:
    """What reading gives: a question, or what is wrong."""
    try:
        question = read(*args)
    except RequestError as error:
        return error.problems
    except RequestValidationError as error:
        return [problem["loc"] for problem in error.errors()]
    return question.item_ids, question.fusion, question.top_k, *map(values_of, (question.head, question.candidates))


def values_of(encoded: Encoded) -> Any:
    arrays: list[Any] = [
        encoded.singles_FB,
        encoded.dense_CB,
        encoded.empty_CB,
        *(part for pair in encoded.lists for part in pair),
    ]
    return [array.tolist() for array in arrays]


@given(request=REQUESTS)
def test_both_ways_understand_a_request_alike(reader: Reader, request: dict[str, Any]) -> None:
    body = orjson.dumps(request)
    assert outcome(read, reader, body) == outcome(carefully, reader, body)


def test_requests_in_order_take_the_fast_way(reader: Reader, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "carefully", None)
    for case in bundle.golden:
        question = read(reader, orjson.dumps(case["request"]))
        assert len(question.candidates) == len(case["expected"])
    body = {"user": {"age": 7}, "context": {}, "candidates": [{"item_id": "a"}, {"item_id": 2, "tags": ["x", 1, None]}]}
    assert read(reader, orjson.dumps(body)).item_ids == ["a", 2]


@pytest.mark.parametrize("value", ["18", True, 2**63, 1.5])
def test_what_is_unusual_takes_the_careful_way(reader: Reader, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(Reader, "carefully", lambda _, request, *__: seen.append(request))
    place = {"18": "age", 1.5: "city"}.get(value, "user_id")
    read(reader, orjson.dumps({"user": {place: value}, "candidates": [{"item_id": 1}]}))
    assert seen[0].user == {place: value}


def test_readers_of_one_column_agree_on_types() -> None:
    tree = builders.schema().model_dump()
    tree["features"] = [
        {"kind": "id", "name": "a", "entity": "item", "column": "c"},
        {"kind": "number", "name": "b", "entity": "item", "column": "c"},
        {"kind": "id", "name": "d", "entity": "item", "column": "e"},
        {"kind": "ids", "name": "f", "entity": "item", "column": "e", "separator": ","},
        {"kind": "id", "name": "g", "entity": "item", "column": "h"},
        {"kind": "ids", "name": "i", "entity": "item", "column": "h"},
    ]
    types = parsed_types(builders.schema().model_validate(tree | {"tables": {}}))
    assert types["e"] == str | None
    assert types["h"] is None  # an id and a list: nothing suits both
    np.testing.assert_equal(float in types["c"].__args__, False)
