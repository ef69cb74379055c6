"""Requests that leave features out get those of the store, whichever it is."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import Tensor

from recsys_mtl.data.newest import FEATURES
from serving.arrow import MEDIA_TYPE, REQUEST
from tests import builders
from tests.serving.conftest import Start
from tests.serving.store.conftest import publish, served
from tests.serving.world import Json, answered, problems_of, sample, scores_of

USERS = ("user", "city", "history_item", "history_author", "age")
ITEMS = ("video", "author", "tags", "duration", "quality")
USER, VIDEOS = 13, [5, 22, 47, 3]


def stored(data: Path, entity: str, key: str, value: int) -> Json:
    """What was published of a user or an item."""
    rows = pq.read_table(data / FEATURES / f"{entity}s.parquet").to_pylist()
    (found,) = [row for row in rows if row[key] == value]
    return dict(found)


def full(data: Path, user: int = USER, videos: list[int] = VIDEOS, **more: Any) -> Json:
    """A request that brings all that is stored."""
    candidates = [{"item_id": video, **stored(data, "item", "video", video)} for video in videos]
    return {"user": stored(data, "user", "user", user), "candidates": candidates, **more}


def bare(user: object = USER, videos: list[Any] = VIDEOS, **more: Any) -> Json:
    """A request that brings nothing but ids."""
    return {"user": {"user_id": user}, "candidates": [{"item_id": video} for video in videos], **more}


def score(client: Any, body: Json) -> Tensor:
    return scores_of(answered(client, "/v1/score", body))


def test_ids_alone_give_the_scores_of_the_stored_features(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        for user in range(builders.USERS):
            body = bare(user, context={"hour": 7})
            expected = score(without, full(data, user, context={"hour": 7}))
            assert score(client, body).equal(expected)
        assert not score(without, bare()).equal(score(client, bare()))
        ranked = answered(client, "/v1/rank", bare())["candidates"]
        assert ranked == answered(without, "/v1/rank", full(data))["candidates"]


def test_a_request_that_brings_everything_asks_nobody(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    body = full(data, user=13, videos=[5, 22, 47])
    body["user"] |= {"city": "c", "age": 7.5, "history_item": [], "history_author": []}
    body["candidates"] = [c | {"duration": 1.0, "tags": []} for c in body["candidates"]]
    with served(start, address) as client, start() as without:
        assert score(client, body).equal(score(without, body))
        assert sample(client, 'recsys_store_lookups_total{entity="user",result="hit"}') == 0
        assert sample(client, 'recsys_store_lookups_total{entity="item",result="hit"}') == 0


def test_values_of_the_request_win_one_by_one(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    own: list[Json] = [{"author": 11}, {"tags": ["new"], "duration": 9}, {}, {"author": "4", "quality": "0.25"}]
    body, expected = bare(), full(data)
    body["user"] |= {"city": "elsewhere", "history_item": [1], "history_author": [1]}
    expected["user"] |= {"city": "elsewhere", "history_item": [1], "history_author": [1]}
    for row, cells in enumerate(own):
        body["candidates"][row] |= cells
        expected["candidates"][row] |= cells
    with served(start, address) as client, start() as without:
        assert score(client, body).equal(score(without, expected))


def test_null_is_filled_and_an_empty_value_is_not(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    nulls, empty, expected = bare(), bare(), full(data)
    nulls["candidates"] = [c | {"author": None, "tags": None, "duration": None} for c in nulls["candidates"]]
    empty["candidates"] = [c | {"author": "", "tags": [], "duration": ""} for c in empty["candidates"]]
    expected["candidates"] = [c | {"author": None, "tags": None, "duration": None} for c in expected["candidates"]]
    with served(start, address) as client, start() as without:
        assert score(client, nulls).equal(score(without, full(data)))
        assert score(client, empty).equal(score(without, expected))


def test_a_sequence_is_of_one_origin(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    body, expected = bare(), full(data)
    body["user"]["history_item"] = expected["user"]["history_item"] = [4, 5]
    expected["user"]["history_author"] = None
    with served(start, address) as client, start() as without:
        problems = problems_of(without, expected)
        assert problems_of(client, body) == problems  # its authors are missing, whatever the store has of others


def test_keys_may_be_numbers_or_text(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client:
        expected = score(client, bare(13, [5, 7]))
        assert score(client, bare("13", ["5", 7.0])).equal(expected)
        by_column = {"user": {"user": 13}, "candidates": [{"item_id": "x", "video": 5}, {"item_id": "y", "video": "7"}]}
        assert score(client, by_column).equal(expected)


def test_unknown_keys_are_missing_and_counted(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        body = bare("nobody", [5, 10**9, "no such", 2**64 - 1])
        partly = bare("nobody", [5, 10**9, "no such", 2**64 - 1])
        partly["candidates"][0] |= stored(data, "item", "video", 5)
        assert score(client, body).equal(score(without, partly))
        counts = {
            (entity, result): sample(client, f'recsys_store_lookups_total{{entity="{entity}",result="{result}"}}')
            for entity in ("user", "item")
            for result in ("hit", "miss")
        }
        assert counts == {("user", "hit"): 0, ("user", "miss"): 1, ("item", "hit"): 1, ("item", "miss"): 3}


def test_a_request_without_ids_asks_nobody(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    body = {"user": {}, "candidates": [{"item_id": 1, "video": None}]}
    with served(start, address) as client, start() as without:
        assert score(client, body).equal(score(without, body))
        assert sample(client, 'recsys_store_lookups_total{entity="user",result="miss"}') == 0


@pytest.mark.parametrize(
    ("user", "candidate", "place"),
    [
        ({"city": ["a"]}, {}, "user.city"),
        ({"colour": 1}, {}, "user.colour"),
        ({}, {"tags": 7}, "candidates.1.tags"),
        ({}, {"duration": "long"}, "candidates.1.duration"),
        ({}, {"tags": [[1]]}, "candidates.1.tags.0"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_with_its_place(
    data: Path, address: str, start: Start, user: Json, candidate: Json, place: str
) -> None:
    publish(data, address)
    body = bare()
    body["user"] |= user
    body["candidates"][1] |= candidate
    with served(start, address) as client:
        assert [found for found, _ in problems_of(client, body)] == [place]
        assert sample(client, 'recsys_store_lookups_total{entity="item",result="error"}') == 0


def test_an_empty_redis_knows_nobody(redis: Any, start: Start) -> None:
    redis.client.flushall()
    with served(start, redis.url) as client, start() as without:
        assert score(client, bare()).equal(score(without, bare()))
        assert sample(client, 'recsys_store_lookups_total{entity="item",result="miss"}') == 4


def test_stored_values_that_the_model_cannot_read_are_left_out(data: Path, tmp_path: Path, start: Start) -> None:
    place = tmp_path / "features"
    publish(data, f"parquet:{place}")
    (file,) = place.glob("items-*.parquet")
    table = pq.read_table(file)
    texts = pa.array(["not a number"] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index("duration"), "duration", texts), file)
    with served(start, f"parquet:{place}") as client, start() as without:
        assert score(client, bare()).equal(score(without, bare()))
        assert sample(client, 'recsys_store_lookups_total{entity="item",result="error"}') == 4


def test_a_part_of_a_sequence_is_not_filled_in(data: Path, tmp_path: Path, start: Start) -> None:
    place = tmp_path / "features"
    address = f"parquet:{place}"
    publish(data, address)
    (file,) = place.glob("users-*.parquet")  # as published with the schema of a model that reads less
    pq.write_table(pq.read_table(file).drop_columns(["history_author"]), file)
    expected = full(data)
    expected["user"] |= {"history_item": None, "history_author": None}
    with served(start, address) as client, start() as without:
        assert score(client, bare()).equal(score(without, expected))
        careful = {**bare(), "user": {"user_id": USER, "city": True}}  # read the careful way
        expected["user"]["city"] = True
        assert score(client, careful).equal(score(without, expected))


def test_the_careful_way_fills_as_the_fast_one(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    with served(start, address) as client, start() as without:
        for user in range(0, builders.USERS, 3):
            careful, expected = bare(user), full(data, user)
            careful["candidates"][0]["author"] = expected["candidates"][0]["author"] = 2.5
            assert score(client, careful).equal(score(without, expected))


def test_stored_types_that_no_request_has_are_read_as_in_training(data: Path, tmp_path: Path, start: Start) -> None:
    items = pq.read_table(data / FEATURES / "items.parquet")
    authors = pa.compute.cast(items["author"], pa.float64())
    durations = pa.compute.cast(items["duration"], pa.string())
    for name, values in (("author", authors), ("duration", durations)):
        items = items.set_column(items.column_names.index(name), name, values)
    pq.write_table(items, tmp_path / "items.parquet")
    address = f"parquet:{tmp_path / 'features'}"
    publish(data, address, items=str(tmp_path / "items.parquet"))
    with served(start, address) as client, start() as without:
        assert score(client, bare()).equal(score(without, full(data)))


def test_candidates_in_an_arrow_stream_are_completed(data: Path, address: str, start: Start) -> None:
    publish(data, address)
    videos = pa.table({"item_id": VIDEOS, "author": [None, 11, None, None]})
    sink = pa.BufferOutputStream()
    head = json.dumps({"user": {"user_id": USER}})
    with pa.ipc.new_stream(sink, videos.schema.with_metadata({REQUEST: head})) as stream:
        stream.write_table(videos.replace_schema_metadata({REQUEST: head}))
    expected = full(data)
    expected["candidates"][1]["author"] = 11
    with served(start, address) as client, start() as without:
        response = client.post("/v1/score", content=sink.getvalue().to_pybytes(), headers={"Content-Type": MEDIA_TYPE})
        assert response.status_code == 200, response.text
        assert scores_of(response.json()).equal(score(without, expected))
