import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.day import RawDay, day_facts, held_out, write_day
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.fit import fit
from recsys_mtl.data.growth import scale_differences
from recsys_mtl.data.schema import Schema
from tests import builders
from tests.unit.data.worlds import contents

Tree = dict[str, Any]
VALUES = st.lists(st.sampled_from("abcdefgh") | st.none(), max_size=12)


def tree(**changes: Any) -> Tree:
    features = [
        {"kind": "id", "name": "x", "entity": "item"},
        {"kind": "number", "name": "n", "entity": "item", "standardise": True},
    ]
    return {
        "features": features,
        "tasks": [{"kind": "binary", "name": "click"}],
        "tables": {"x": {"encoding": {"kind": "vocabulary"}}},
        "group": "g",
    } | changes


def schema(**changes: Any) -> Schema:
    return validate(Schema, tree(**changes))


def rows(values: Sequence[str | None]) -> pa.Table:
    numbers = pa.array([float(i) for i in range(len(values))], pa.float64())
    return pa.table({"x": pa.array(values, pa.string()), "n": numbers})


def encoder(made: Schema, values: list[str | None], base: Encoder | None = None) -> Encoder:
    return Encoder(*fit(made, [rows(values)], base))


@settings(deadline=None)  # the first example pays for imports
@given(VALUES, VALUES, st.integers(1, 3), st.none() | st.integers(1, 5))
def test_growing_keeps_rows_and_moments(
    before: list[str | None], day: list[str | None], min_count: int, max_size: int | None
) -> None:
    encoding = {"kind": "vocabulary", "min_count": min_count, "max_size": max_size}
    made = schema(tables={"x": {"encoding": encoding}})
    base = encoder(made, before)
    grown = encoder(made, day, base)
    old, new = base.vocabularies["x"], grown.vocabularies["x"]
    assert new[: len(old)] == old
    appended = {value for value in set(day) - {None} if day.count(value) >= min_count} - set(old)
    counts = {value: day.count(value) for value in appended}
    expected = sorted(counts, key=lambda value: (-counts[value], str(value)))
    assert new[len(old) :] == expected[: None if max_size is None else max_size - len(old)]
    assert grown.spec.moments == base.spec.moments
    assert grown.spec.rows["x"] == 2 + len(new)
    known = [value for value in before if value in old]
    assert grown.encode(rows(known)).equals(base.encode(rows(known)))


def test_what_has_grown_names_its_base_and_another_fingerprint() -> None:
    base = encoder(schema(), ["a"])
    grown = encoder(schema(), ["a"], base)
    assert base.spec.grown_from is None
    assert grown.spec.grown_from == base.spec.fingerprint
    assert grown.spec.fingerprint != base.spec.fingerprint


def test_a_specification_that_has_not_grown_is_written_and_hashed_as_ever(tmp_path: Path) -> None:
    base = encoder(schema(), ["a", "b"])
    base.save(tmp_path)
    assert "grown_from" not in (tmp_path / "spec.yaml").read_text()
    assert base.spec.fingerprint == "bd09b8177617bcb0"


WITHOUT_N: Tree = {"features": tree()["features"][:1]}
CHANGES: dict[str, tuple[Tree, str]] = {
    "a feature less": (WITHOUT_N, "features.n: only the base has it"),
    "another setting": (
        {"features": [tree()["features"][0], tree()["features"][1] | {"log1p": True}]},
        "features.n.log1p: False in the base, True here",
    ),
    "another order": ({"features": tree()["features"][::-1]}, "features: the base has them in the order x, n"),
    "a task more": (
        {"tasks": [{"kind": "binary", "name": "click"}, {"kind": "binary", "name": "buy"}]},
        "tasks.buy: only the new data has it",
    ),
    "a wider table": ({"tables": {"x": {"dim": 4}}}, "tables.x.dim: 16 in the base, 4 here"),
    "another group": ({"group": "h"}, "group: 'g' in the base, 'h' here"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=list(CHANGES))
def test_another_schema_cannot_grow_from_a_base(change: Tree, message: str) -> None:
    base = encoder(schema(), ["a"])
    with pytest.raises(ConfigError) as error:
        encoder(schema(**change), ["a"], base)
    (problem,) = error.value.problems
    assert problem.startswith(message)


def test_numbers_of_another_scale_are_named() -> None:
    one, other = encoder(schema(), ["a"]).spec, encoder(schema(), ["a", "b"]).spec
    assert list(scale_differences(one, one)) == []
    (problem,) = scale_differences(one, other)
    assert problem.startswith("moments.n: (0.0, 1.0) in the base, (0.5, 0.5) here")


DAY = date(2022, 4, 22)


def raw_day(seed: int = 3) -> RawDay:
    return RawDay(
        builders.schema(), DAY, lambda: iter([builders.raw_table(90, seed), builders.raw_table(60, seed + 1)])
    )


@pytest.fixture
def base(tmp_path: Path) -> Encoder:
    builders.prepared(tmp_path / "base")
    return Encoder.load(tmp_path / "base")


def test_a_days_splits_hold_the_same_rows(tmp_path: Path, base: Encoder) -> None:
    out = tmp_path / "2022-04-22"
    spec = write_day(raw_day(), out, base=base)
    assert spec.grown_from == base.spec.fingerprint
    tables = {split: pq.read_table(out / split) for split in ("train", "valid", "test")}
    assert tables["train"].num_rows == 150
    train, test = (sorted(map(str, tables[split].to_pylist())) for split in ("train", "test"))
    assert train == test
    assert tables["valid"].equals(tables["test"])
    stats = json.loads((out / "stats.json").read_text())
    assert stats["splits"]["train"] == stats["splits"]["test"] == stats["splits"]["valid"]
    assert (out / "valid" / "part-00000.parquet").stat().st_nlink == 2


def test_a_day_is_copied_where_files_cannot_have_two_names(
    tmp_path: Path, base: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    write_day(raw_day(), tmp_path / "day", base=base)
    assert contents(tmp_path / "day" / "valid") == contents(tmp_path / "day" / "test")


def test_rows_of_some_users_are_held_out_of_a_day(tmp_path: Path, base: Encoder) -> None:
    out = tmp_path / "day"
    spec = write_day(raw_day(), out, base=base, hold_out=0.3)
    tables = {split: pq.read_table(out / split) for split in ("train", "valid", "test")}
    users = {split: set(table["_group"].to_pylist()) for split, table in tables.items()}
    assert not users["train"] & users["valid"]
    assert users["train"] | users["valid"] == users["test"]
    parts = [str(row) for split in ("train", "valid") for row in tables[split].to_pylist()]
    assert sorted(parts) == sorted(map(str, tables["test"].to_pylist()))
    stats, facts = json.loads((out / "stats.json").read_text()), day_facts(out)
    assert (facts.rows, facts.held_out, stats["held_out"]) == (150, tables["valid"].num_rows, 0.3)
    assert facts.held_out == stats["splits"]["valid"]["rows"] > 0
    learnt = [str(user) for user in tables["train"]["_group"].unique().to_pylist()]
    assert set(Encoder.load(out).vocabularies["user"]) <= {*base.vocabularies["user"], *learnt}
    assert spec.rows["user"] == 2 + len(Encoder.load(out).vocabularies["user"])
    newest = pq.read_table(out / "features" / "users.parquet")
    assert set(newest["user"].to_pylist()) == users["test"], "who is held out is served all the same"


@given(st.floats(0.05, 0.5), st.integers(0, 99))
def test_other_users_are_held_out_every_day_and_as_many_as_wanted(share: float, seed: int) -> None:
    groups = np.random.default_rng(seed).integers(-(2**62), 2**62, 4000)
    first, second = (held_out(groups, date(2022, 4, day), share) for day in (22, 23))
    assert first.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / len(groups)))
    assert (first & second).mean() == pytest.approx(share**2, abs=0.03)
    assert (held_out(groups[::-1], date(2022, 4, 22), share) == first[::-1]).all()


def test_a_day_knows_its_date_rows_and_whether_they_changed(tmp_path: Path, base: Encoder) -> None:
    found = []
    for number, seed in enumerate((3, 3, 9)):
        write_day(raw_day(seed), tmp_path / str(number), base=base)
        found.append(day_facts(tmp_path / str(number)))
    assert found[0] == found[1]
    assert (found[0].day, found[0].rows) == (DAY, 150)
    assert found[0].digest != found[2].digest


@pytest.mark.parametrize("make", [lambda path: path, lambda path: builders.prepared(path)], ids=["nothing", "no day"])
def test_what_is_no_day_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "data")
    with pytest.raises(ConfigError, match=r"stats.json: No such file|is not a prepared day"):
        day_facts(tmp_path / "data")
