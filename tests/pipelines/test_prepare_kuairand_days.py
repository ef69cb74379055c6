"""KuaiRand-Pure day by day: the same features as in the whole, each day grown from the one before."""

import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.prepare.days import write_days
from pipelines.prepare.kuairand import prepare
from pipelines.prepare.kuairand_days import prepare_days
from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder
from tests.pipelines.kuairand_world import LENGTHS, Row, all_rows, make_logs, make_users, make_videos, write_world

FIRST = 20220427


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("kuairand") / "source", make_logs(), make_users(), make_videos())


def test_base_and_days_hold_every_impression_once_with_the_features_of_the_whole(world: Path) -> None:
    whole = all_rows(prepare(world, lengths=LENGTHS))
    found = prepare_days(world, days_from=FIRST, lengths=LENGTHS)
    rows: list[Row] = [row for split in ("train", "valid") for t in found.base.splits[split]() for row in t.to_pylist()]
    rows += [row for day in found.days for table in day.rows() for row in table.to_pylist()]
    assert rows == whole
    test = [row for table in found.base.splits["test"]() for row in table.to_pylist()]
    assert test == [row for table in found.days[0].rows() for row in table.to_pylist()]


def test_days_end_where_they_are_told_to(world: Path) -> None:
    found = prepare_days(world, days_from=FIRST, days_to=20220429, lengths=LENGTHS)
    assert [day.day for day in found.days] == [date(2022, 4, day) for day in (27, 28, 29)]


def test_each_day_is_written_and_grows_from_the_one_before(world: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    write_days(lambda: prepare_days(world, days_from=FIRST, days_to=20220428, lengths=LENGTHS), tmp_path, console)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2022-04-27", "2022-04-28", "base"]
    base, first, second = (Encoder.load(tmp_path / name).spec for name in ("base", "2022-04-27", "2022-04-28"))
    assert (first.grown_from, second.grown_from) == (base.fingerprint, first.fingerprint)
    assert "new values" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"days_from": 20220409}, r"days_from: 20220409 leaves 0 days before it, of two at least; the logs cover 2022"),
        ({"days_from": 20230101}, r"days_from: no impressions from 20230101 on; the logs cover 20220424 to 2022"),
        ({"days_from": 20220427, "days_to": 20220426}, r"days_from: no impressions from 20220427 to 20220426"),
        ({"days_from": 99}, r"days_from: 99 is not a date YYYYMMDD"),
    ],
)
def test_days_that_are_not_there_are_refused(world: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare_days(world, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--days-from", "20220427", "--test-from", "20220428"],
            "--test-from: would be ignored: --days-from splits by day",
        ),
        (["--days-to", "20220427"], "--days-to: would be ignored: there is no --days-from"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    world: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    arguments = ["prepare", "kuairand", "--source", str(world), "--out", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()
