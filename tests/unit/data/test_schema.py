from typing import Any

import pytest

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.schema import (
    Hashing,
    Schema,
    SequenceFeature,
    Table,
    Vocabulary,
    parts_of,
    source_columns,
    table_readers,
    target_of,
)
from tests import builders

ID = {"kind": "id", "name": "user", "entity": "user"}
TASK = {"kind": "binary", "name": "click"}


def sequence(**column: Any) -> dict[str, Any]:
    return {"kind": "sequence", "name": "seen", "entity": "user", "columns": [{"name": "seen_item", **column}]}


def schema(*features: dict[str, Any], **fields: Any) -> Schema:
    return validate(Schema, {"features": features or (ID,), "tasks": [TASK], "group": "user", **fields})


def problems_of(*features: dict[str, Any], **fields: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        schema(*features, **fields)
    return caught.value.problems


def test_every_raw_column_is_listed_once_in_the_schemas_order() -> None:
    twice = {"kind": "number", "name": "again", "entity": "user", "column": "age", "log1p": True}
    age = {"kind": "number", "name": "age", "entity": "user", "boundaries": [1]}
    assert source_columns(schema(ID, age, sequence(column="items"), twice)) == ("user", "age", "items")


def test_parts_are_the_columns_of_a_sequence_and_any_other_feature_itself() -> None:
    features = {feature.name: feature for feature in builders.schema().features}
    assert [part.name for part in parts_of(features["history"])] == ["history_item", "history_author"]
    assert parts_of(features["tags"]) == (features["tags"],)


def test_tables_are_listed_with_who_reads_them() -> None:
    readers = [(feature.name, table) for feature, table in table_readers(builders.schema())]
    assert ("history", "item") in readers
    assert ("history", "author") in readers
    assert ("item", "item") in readers
    assert not any(name in {"age", "duration"} for name, _ in readers)  # numbers have no table, or one of their own


def test_tables_without_settings_have_the_defaults() -> None:
    world = builders.schema()
    assert world.table("tags") == Table(encoding=Hashing(buckets=16), dim=4)
    assert world.table("item") == Table(encoding=Vocabulary(), dim=16)
    assert world.vocabularies == ("user", "city", "item", "author", "hour")


def test_the_target_of_a_sequence_column_is_the_items_feature_on_its_table() -> None:
    world = builders.schema()
    history = next(feature for feature in world.features if isinstance(feature, SequenceFeature))
    assert [target_of(column, world) for column in history.columns] == ["item", "author"]


def test_a_named_target_goes_before_the_first_that_fits() -> None:
    items = [{"kind": "id", "name": name, "entity": "item", "table": "item"} for name in ("item", "other")]
    named = schema(*items, sequence(table="item", target="other"))
    lonely = schema(*items, sequence())
    for world, expected in ((named, "other"), (lonely, None)):
        history = world.features[-1]
        assert isinstance(history, SequenceFeature)
        assert target_of(history.columns[0], world) == expected


AGE = {"kind": "number", "name": "age", "entity": "user", "boundaries": [1]}
BAG = {"kind": "ids", "name": "bag", "entity": "item", "table": "tag", "pooling": "sum"}
CONTRADICTIONS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "two features": ([ID, ID], {}, "features: 'user' is used twice"),
    "a feature and a column": ([sequence(), {**ID, "name": "seen_item"}], {}, "features: 'seen_item' is used twice"),
    "two tasks": ([ID], {"tasks": [TASK, TASK]}, "tasks: 'click' is used twice"),
    "its own space": (
        [ID],
        {"tasks": [{**TASK, "space": "click"}]},
        "tasks.click.space: 'click' is not another binary task",
    ),
    "an amount as a space": (
        [ID],
        {"tasks": [{**TASK, "space": "watch"}, {"kind": "regression", "name": "watch"}]},
        "tasks.click.space: 'watch' is not another binary task",
    ),
    "a funnel after an amount": (
        [ID],
        {"tasks": [{**TASK, "after": "watch"}, {"kind": "regression", "name": "watch"}]},
        "tasks.click.after: 'watch' is not another binary task",
    ),
    "a funnel in a space": (
        [ID],
        {"tasks": [TASK, {"kind": "binary", "name": "buy", "space": "click", "after": "click"}]},
        "tasks.buy.after: space and after exclude each other: on some rows only, or on all of them",
    ),
    "a table nobody reads": ([ID], {"tables": {"usr": {"dim": 3}}}, "tables.usr: no feature reads it"),
    "settings for buckets": ([ID, AGE], {"tables": {"age": {"dim": 3}}}, "tables.age: no feature reads it"),
    "two poolings": (
        [BAG, {**BAG, "name": "other", "pooling": "mean"}],
        {},
        "tables.tag: bags that share a table must pool alike",
    ),
    "buckets on a table of others": (
        [{**ID, "table": "age"}, AGE],
        {},
        "features.age: another feature reads a table of this name, which its buckets need",
    ),
    "a target on another table": (
        [ID, sequence(table="item", target="user")],
        {},
        "features.seen_item.target: 'user' is not an id feature on table 'item'",
    ),
    "a target that does not exist": (
        [ID, sequence(target="item")],
        {},
        "features.seen_item.target: 'item' is not an id feature on table 'seen_item'",
    ),
    "a feature of a label": (
        [{**ID, "name": "x", "column": "click"}],
        {},
        "features.x: column 'click' is the label of task 'click'",
    ),
    "a sequence of a label": (
        [sequence(column="bought")],
        {"tasks": [{**TASK, "label": "bought"}]},
        "features.seen_item: column 'bought' is the label of task 'click'",
    ),
}


def test_a_funnel_that_goes_round_is_named_by_every_event_in_it() -> None:
    tasks = [{**TASK, "after": "buy"}, {"kind": "binary", "name": "buy", "after": "click"}]
    assert problems_of(ID, tasks=tasks) == (
        "tasks.click.after: the funnel comes back to 'click'",
        "tasks.buy.after: the funnel comes back to 'buy'",
    )


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_named(name: str) -> None:
    features, fields, problem = CONTRADICTIONS[name]
    assert problems_of(*features, **fields) == (problem,)


def test_all_contradictions_are_named_at_once() -> None:
    problems = problems_of(ID, ID, tables={"a": {}}, tasks=[TASK, TASK])
    assert problems == (
        "features: 'user' is used twice",
        "tasks: 'click' is used twice",
        "tables.a: no feature reads it",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"boundaries": [1, 1]}, "boundaries must be strictly increasing"),
        ({"boundaries": [2, 1]}, "boundaries must be strictly increasing"),
        ({"boundaries": []}, "at least 1 item"),
        ({"boundaries": [float("nan")]}, "finite number"),
        ({"boundaries": [1], "log1p": True}, "log1p and standardise would be ignored"),
        ({"boundaries": [1], "standardise": True}, "log1p and standardise would be ignored"),
        ({"clip": [1, 1]}, "clip must be a lower and a higher number"),
        ({"clip": [0, float("nan")]}, "clip must be a lower and a higher number"),
        ({"default": float("inf")}, "finite number"),
        ({"dim": 1025}, "less than or equal to 1024"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    (problem,) = problems_of({"kind": "number", "name": "age", "entity": "user", **fields})
    assert problem.startswith("features.0")
    assert message in problem


def test_a_clip_may_be_open_at_one_end() -> None:
    world = schema(ID, {"kind": "number", "name": "age", "entity": "user", "clip": [0, float("inf")]})
    assert validate(Schema, world.model_dump(mode="json")) == world


@pytest.mark.parametrize(
    ("feature", "path"),
    [
        ({**ID, "name": "label.click"}, "features.0.name"),
        ({**ID, "table": "a/b"}, "features.0.table"),
        ({**ID, "entity": "owner"}, "features.0.entity"),
        ({"kind": "ids", "name": "a", "entity": "item", "separator": ""}, "features.0.separator"),
        ({"kind": "sequence", "name": "a", "entity": "user", "columns": []}, "features.0.columns"),
        ({"kind": "text", "name": "a", "entity": "user"}, "features.0.kind"),
    ],
)
def test_problems_name_their_field(feature: dict[str, Any], path: str) -> None:
    (problem,) = problems_of(feature)
    assert problem.startswith(f"{path}: ")


def test_tables_have_room_for_int32_ids_only() -> None:
    (problem,) = problems_of(ID, tables={"user": {"encoding": {"kind": "hash", "buckets": 2**31}}})
    assert problem.startswith("tables.user.encoding.buckets: ")
