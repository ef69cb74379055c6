"""Anybody's table: schemas that make no sense."""

from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.table_cases import Make, feature, maker, problem


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


WRONG_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"group": None}, "group: field required"),
    ({"colour": 1}, "colour: unknown field"),
    ({"split": {"kind": "fraction", "valid": 0.5, "test": 0.5}},
     "split: valid + test is 1: nothing is left for training"),
    ({"split": {"kind": "fraction", "valid": 0, "test": 0.5}}, "split.valid: input should be greater than 0 (got 0)"),
    ({"split": {"kind": "date", "column": "d", "valid_from": "2022-05-03", "test_from": 20220502}},
     "split: valid_from (2022-05-03 00:00:00) must be before test_from (2022-05-02 00:00:00)"),
    ({"split": {"kind": "date", "column": "d", "valid_from": "May", "test_from": 20220502}},
     "split.valid_from: expected a day such as 2022-05-02, got 'May'"),
    ({"labels": {"click": {"column": "c"}}},
     "labels.click: say either which values are positive or at_least, not both"),
    ({"labels": {"x": {"column": "c", "positive": 1}}}, "configuration: labels.x: no binary task reads it"),
    (feature(kind="id", name="click"), "features.click: column 'click' is the label of task 'click'"),
    ({"labels": {"click": {"column": "age", "at_least": 30}}},
     "configuration: features: column 'age' is what task click predicts"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), WRONG_SCHEMAS)
def test_wrong_schemas_are_refused(make: Make, changes: dict[str, Any], message: str) -> None:
    assert problem(lambda: make(**changes)) == f"schema.yaml: {message}"


def test_a_value_belongs_to_one_split(make: Make) -> None:
    values = {"train": [1, 2], "valid": 2, "test": 3}
    found = problem(lambda: make(split={"kind": "column", "column": "fold", "values": values}))
    assert found.endswith("values: '2' is listed twice")
