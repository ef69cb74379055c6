from typing import Any

import pytest

from recsys_mtl.config import ConfigError, merge, validate
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.spec import Spec, make_spec
from tests import builders

SCHEMA = builders.schema()
VOCABULARIES = {"user": ["1", "2"], "city": ["x"], "item": ["5"], "author": [], "hour": ["0", "1"]}
MOMENTS = {"duration": (2.0, 0.5)}


def made(tree: dict[str, Any] | None = None, vocabularies: Any = None, moments: Any = None) -> Spec:
    schema = validate(Schema, merge(SCHEMA.model_dump(mode="json"), tree or {}))
    return make_spec(schema, VOCABULARIES if vocabularies is None else vocabularies, moments or MOMENTS)


def test_tables_have_two_special_rows_and_one_per_value_bucket_or_range() -> None:
    assert made().rows == {"user": 4, "city": 3, "item": 3, "author": 2, "tags": 18, "hour": 4, "age": 6}


def test_equal_content_has_equal_fingerprints() -> None:
    assert made().fingerprint == made().fingerprint
    assert len(made().fingerprint) == 16


@pytest.mark.parametrize(
    "other",
    [
        made({"tables": {"tags": {"dim": 5}}}),
        made({"tables": {"tags": {"encoding": {"kind": "hash", "buckets": 15}}}}),
        made({"item": None}),
        made({"features": [*SCHEMA.model_dump(mode="json")["features"][::-1]]}),
        made(vocabularies={**VOCABULARIES, "user": ["2", "1"]}),
        made(vocabularies={**VOCABULARIES, "user": ["1", "3"]}),
        made(vocabularies={**VOCABULARIES, "user": ["12", ""]}),
        made(moments={"duration": (2.0, 0.5000001)}),
    ],
)
def test_whatever_changes_an_encoding_changes_the_fingerprint(other: Spec) -> None:
    assert other.fingerprint != made().fingerprint


def test_a_fingerprint_counts_kept_negatives_only_where_some_were_dropped() -> None:
    assert made().fingerprint == "88282c7b9355e2a3"  # as of data sets that were prepared before there was a rate
    dropped = {"binary": {"negative_rate": 0.5}}
    tasks = [task | dropped.get(task["kind"], {}) for task in SCHEMA.model_dump(mode="json")["tasks"]]
    assert made({"tasks": tasks}).fingerprint != made().fingerprint


def test_a_spec_survives_its_file() -> None:
    assert validate(Spec, made().model_dump(mode="json", exclude_none=True)) == made()


def test_a_spec_that_was_not_fitted_is_refused() -> None:
    tree = made().model_dump(mode="json") | {"moments": {}}
    del tree["rows"]["age"], tree["rows"]["item"]
    with pytest.raises(ConfigError) as caught:
        validate(Spec, tree)
    assert set(caught.value.problems) == {f"{f}: field required" for f in ("rows.age", "rows.item", "moments.duration")}
