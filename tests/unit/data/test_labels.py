import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys_mtl.config import validate
from recsys_mtl.data.encode import hash64
from recsys_mtl.data.labels import GROUP, WEIGHT, encode_group, encode_label, encode_targets
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import FeatureError
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task

CLICK = BinaryTask(name="click")
WATCH = RegressionTask(name="watch", label="ms")
LOSS = RegressionTask(name="loss", transform="identity")


def labels(task: Task, cells: Any) -> list[float | None]:
    column = encode_label(task, pa.table({task.label_column: cells}))
    assert column.type == pa.float32()
    return column.to_pylist()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([0, 1, None], [0, 1, None]),
        ([0.0, 1.0, math.nan], [0, 1, None]),
        ([True, False, None], [1, 0, None]),
        (["1", "0", ""], [1, 0, None]),
        ([None, None], [None, None]),
    ],
)
def test_events_are_0_or_1_or_unknown(cells: list[Any], expected: list[float | None]) -> None:
    assert labels(CLICK, cells) == expected


@pytest.mark.parametrize(("cells", "value"), [([1, None, 2], "2"), ([1, 0, -1], "-1"), ([1, 0, 0.5], "0.5")])
def test_any_other_event_is_refused(cells: list[Any], value: str) -> None:
    with pytest.raises(FeatureError, match=rf"^click: {value} is not a label of click: 0, 1 or empty \(row 3\)$"):
        labels(CLICK, cells)


def test_text_as_an_event_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"^click: 'yes' is not a number \(row 2\)$"):
        labels(CLICK, ["1", "yes"])


def test_amounts_are_kept_in_their_unit() -> None:
    assert labels(WATCH, [1.5, None, 0, 1e6]) == [1.5, None, 0, 1e6]
    assert labels(LOSS, [-1.5]) == [-1.5]


def test_a_negative_amount_has_no_logarithm() -> None:
    with pytest.raises(FeatureError, match=r"^ms: -2 is negative; watch is learnt as log1p \(row 2\)$"):
        labels(WATCH, [1, -2])


def test_an_amount_beyond_float32_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"^loss: the number is too large for the model \(row 1\)$"):
        labels(LOSS, [1e39])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([7, -1], pa.int8()), [7, -1]),
        (pa.array([2**63 - 1]), [2**63 - 1]),
        (pa.array(["7", "u", "7"]), [hash64("7") >> 1, hash64("u") >> 1, hash64("7") >> 1]),
        (pa.array([7.0, 0.5]), [hash64("7") >> 1, hash64("0.5") >> 1]),
        (pa.array([2**63], pa.uint64()), [hash64(str(2**63)) >> 1]),
        (pa.array(["u"]).dictionary_encode(), [hash64("u") >> 1]),
    ],
    ids=str,
)
def test_groups_are_whole_numbers_or_hashes(column: Any, expected: list[int]) -> None:
    groups = encode_group(column, "user")
    assert groups.type == pa.int64()
    assert groups.to_pylist() == expected


@pytest.mark.parametrize(
    "column", [pa.array([1, None]), pa.array(["a", ""]), pa.array([1.0, math.nan]), pa.array(["a", None])], ids=str
)
def test_an_empty_group_is_refused(column: Any) -> None:
    with pytest.raises(FeatureError, match=r"^user: the group is empty \(row 2\)$"):
        encode_group(column, "user")


def test_targets_follow_the_features() -> None:
    tree = {
        "features": [{"kind": "id", "name": "x", "entity": "user"}],
        "tasks": [CLICK.model_dump(), WATCH.model_dump()],
        "group": "user",
        "weight": "w",
    }
    features = pa.table({"x": pa.array([2, 3], pa.int32())})
    raw = pa.table({"click": [1, None], "ms": [None, 4.5], "user": [8, 9], "w": [1, 0]})
    table = encode_targets(validate(Schema, tree), raw, features)
    assert table.column_names == ["x", "label.click", "label.watch", GROUP, WEIGHT]
    assert table.to_pydict() == {
        "x": [2, 3], "label.click": [1, None], "label.watch": [None, 4.5], GROUP: [8, 9], WEIGHT: [1, 0]
    }  # fmt: skip
    assert table.schema.field(WEIGHT).type == pa.float32()
    for bad in (-1.0, None, math.inf, np.nan):
        with pytest.raises(FeatureError, match=r"^w: a weight must be zero or more \(row 2\)$"):
            encode_targets(validate(Schema, tree), raw.set_column(3, "w", pa.array([1.0, bad])), features)
