"""Candidates that are nothing but ids: encoded once, they are what they are the careful way."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from recsys_mtl.bundle import Bundle
from serving.reader import Body, Question, Reader
from serving.schemas import ScoreRequest
from serving.store.bare import Bare
from serving.store.base import LookUp
from serving.store.desk import open_store
from serving.store.lookups import Lookups
from tests.serving.store.conftest import publish

IDS = st.one_of(st.integers(-2, 90), st.sampled_from(["7", "new", "5.0"]))


@pytest.fixture(scope="module")
def look_up(data: Path, tmp_path_factory: pytest.TempPathFactory) -> LookUp:
    address = f"parquet:{tmp_path_factory.mktemp('quick') / 'features'}"
    publish(data, address)
    lookups = Lookups(open_store(address), CollectorRegistry(), timeout_ms=1000)

    def ask(*args: Any) -> Any:
        return lookups.now(*args)

    return LookUp(ask, lookups.unusable, is_at_hand=True)


@pytest.fixture(scope="module")
def reader(bundle: Bundle) -> Reader:
    return Reader(bundle.encoder)


def values_of(question: Question) -> list[Any]:
    sides = (question.head, question.candidates)
    arrays: list[list[Any]] = [
        [side.singles_FB, side.dense_CB, side.empty_CB, *(part for pair in side.lists for part in pair)]
        for side in sides
    ]
    return [array.tolist() for side in arrays for array in side]


@given(
    user=st.fixed_dictionaries(
        {}, optional={"user_id": IDS, "city": st.just("city-2"), "age": st.floats(0, 90), "history_item": st.just([3])}
    ),
    items=st.lists(IDS, min_size=1, max_size=6),
    context=st.fixed_dictionaries({}, optional={"hour": st.integers(0, 30)}),
)
def test_both_ways_find_the_same(
    reader: Reader, look_up: LookUp, user: dict[str, Any], items: list[Any], context: dict[str, Any]
) -> None:
    if "history_item" in user:
        user["history_author"] = [4]
    request = {"user": user, "context": context, "candidates": [{"item_id": item} for item in items]}
    body = Body(orjson.dumps(request), ScoreRequest)
    bare = reader.read(body, 10, look_up)
    careful = reader.carefully(ScoreRequest.model_validate(request), look_up)
    assert bare.item_ids == careful.item_ids
    assert values_of(bare) == values_of(careful)


def test_ids_alone_take_the_quick_way(reader: Reader, look_up: LookUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "carefully", None)
    body = Body(b'{"user": {"user_id": 3}, "candidates": [{"item_id": 5}, {"item_id": "new"}]}', ScoreRequest)
    first = values_of(reader.read(body, 10, look_up))
    assert values_of(reader.read(body, 10, look_up)) == first


def test_a_candidate_with_a_feature_is_not_bare(
    reader: Reader, look_up: LookUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bare, "encoded", None)
    monkeypatch.setattr(Reader, "carefully", None)
    body = Body(b'{"user": {"user_id": 3}, "candidates": [{"item_id": 5, "quality": 1}]}', ScoreRequest)
    question = reader.read(body, 10, look_up)
    assert question.candidates.dense_CB[1].tolist() == [1.0]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"item_id": IDS},
            optional={
                "author": IDS | st.none(),
                "duration": st.floats(0, 90),
                "tags": st.just(["a"]),
                "quality": st.just(1),
            },
        ),
        min_size=1,
        max_size=6,
    )
)
def test_cells_that_some_candidates_bring_are_kept(
    reader: Reader, look_up: LookUp, candidates: list[dict[str, Any]]
) -> None:
    request = {"user": {"user_id": 3}, "candidates": candidates}
    careful = values_of(reader.carefully(ScoreRequest.model_validate(request), look_up))
    for at_hand in (True, False):
        way = replace(look_up, is_at_hand=at_hand)
        assert values_of(reader.read(Body(orjson.dumps(request), ScoreRequest), 10, way)) == careful


def test_what_was_encoded_goes_with_the_reader(bundle: Bundle, look_up: LookUp) -> None:
    reader = Reader(bundle.encoder)
    body = Body(orjson.dumps({"user": {"user_id": 3}, "candidates": [{"item_id": 7}]}), ScoreRequest)
    gc.disable()  # a cycle would keep it
    try:
        assert reader.read(body, 10, look_up).item_ids == [7]
        items = weakref.ref(reader.bare.items)
        assert items() is not None
        del reader
        assert items() is None
    finally:
        gc.enable()
