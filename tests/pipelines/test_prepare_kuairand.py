import os
import random
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.prepare import kuairand
from pipelines.prepare.kuairand import prepare
from pipelines.prepare.kuairand_counters import COUNTED, counter_columns
from pipelines.prepare.kuairand_files import LABELS
from pipelines.prepare.kuairand_history import BEHAVIOURS, EVENT_COLUMNS
from recsys_mtl.data.dataset import write_dataset
from recsys_mtl.data.raw import RawData, raw_columns
from recsys_mtl.data.schema import source_columns
from recsys_mtl.tasks import funnel
from tests.pipelines.kuairand_world import (
    HOUR_MS,
    LATER,
    LENGTHS,
    MIDNIGHT_MS,
    Row,
    all_rows,
    expected,
    impression,
    make_logs,
    make_users,
    make_videos,
    merged,
    write_world,
)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "source", make_logs(), make_users(), make_videos())


def features(raw: RawData) -> list[Row]:
    return [{name: row[name] for name in source_columns(raw.schema)} for row in all_rows(raw)]


@pytest.mark.parametrize("seed", [0, 1])
def test_histories_and_counters_equal_a_loop_over_all_earlier_impressions(tmp_path: Path, seed: int) -> None:
    logs, videos = make_logs(seed), make_videos()
    raw = prepare(write_world(tmp_path / "source", logs, make_users(), videos), lengths=LENGTHS)
    rows = merged(logs, videos)
    found = all_rows(raw)
    assert len(found) == len(rows) == 140
    for row, got in zip(rows, found, strict=True):
        want = expected(row, rows)
        assert {name: got[name] for name in want} == {
            name: pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value
            for name, value in want.items()
        }
        assert [got[label] for label in LABELS] == [row[label] for label in LABELS]
    sequences = {f"{name}_{column}" for name in BEHAVIOURS for column in EVENT_COLUMNS}
    assert {name for entity in COUNTED for name in counter_columns(entity)} | sequences == set(expected(rows[0], rows))


def test_what_happens_at_a_moment_or_later_changes_no_history_up_to_it(tmp_path: Path) -> None:
    logs, users, videos = make_logs(), make_users(), make_videos()
    before = features(prepare(write_world(tmp_path / "before", logs, users, videos)))
    times = [row["time_ms"] for row in merged(logs, videos)]
    moment = times[90]
    for row in (row for rows in logs.values() for row in rows if row["time_ms"] >= moment):
        row |= {label: 1 - int(row[label] or 0) for label in LABELS} | {"play_time_ms": 1234}
        row["video_id"] = (row["video_id"] + 1) % 8 if row["time_ms"] > moment else row["video_id"]
    after = features(prepare(write_world(tmp_path / "after", logs, users, videos)))
    known = sum(time <= moment for time in times)
    assert before[:known] == after[:known]
    assert before[known:] != after[known:]


def test_impressions_of_one_millisecond_see_nothing_of_each_other(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [impression(rng, MIDNIGHT_MS + 7 * 24 * HOUR_MS * (i > 0) + (i > 2), rebuilt=False) for i in range(4)]
    rows = [row | {"user_id": 1, "video_id": i, "is_click": 1} for i, row in enumerate(rows)]
    rows += [rows[-1] | {"date": "20220503", "time_ms": MIDNIGHT_MS + 9 * 24 * HOUR_MS}]
    raw = prepare(write_world(tmp_path / "source", {LATER: rows}, make_users(), make_videos()))
    found = all_rows(raw)
    assert [row["clicked_video_id"] for row in found] == [[], [0], [0], [0, 1, 2], [0, 1, 2, 3]]
    assert [row["user_impressions"] for row in found] == [0, 1, 1, 3, 4]


def test_attributes_are_in_natural_units_and_unknown_marks_are_null(world: Path) -> None:
    found = all_rows(prepare(world))
    logs = make_logs()
    for row, got in zip(merged(logs, make_videos()), found, strict=True):
        rebuilt = row["tab"] is None
        local = datetime.fromtimestamp(row["time_ms"] / 1000 + 8 * 3600, UTC)
        assert (got["hour"], got["weekday"]) == ((None, None) if rebuilt else (local.hour, local.isoweekday()))
        played = row["play_time_ms"]
        assert got["watch_time"] == (None if played is None else pytest.approx(played / 1000))
        listed = row["video_id"] < 8
        usual = (5000 + row["video_id"]) / 1000 if listed else None
        assert got["duration"] == pytest.approx((row["duration_ms"] or 0) / 1000 or usual)
        age = (local.date() - datetime(2022, 4, 10, tzinfo=UTC).date()).days
        assert got["video_age_days"] == (None if rebuilt or not listed else age)
        assert got["music_id"] is None
        assert got["follow_user_num"] == 10 * row["user_id"]
    first, second = (next(row for row in found if row["user_id"] == user) for user in (0, 1))
    names = ("user_active_degree", "is_live_streamer", "onehot_feat4", "onehot_feat12")
    assert [first[name] for name in names] == [None, None, 3, None]
    assert [second[name] for name in names] == ["full_active", 1, 1, 1]


def test_splits_cut_by_the_logs_date(world: Path) -> None:
    raw = prepare(world, valid_from=20220428, test_from=20220501)
    days = [row["date"] for row in merged(make_logs(), make_videos())]
    want = {
        "train": sum(day < "20220428" for day in days),
        "valid": sum("20220428" <= day < "20220501" for day in days),
        "test": sum(day >= "20220501" for day in days),
    }
    assert {name: sum(table.num_rows for table in split()) for name, split in raw.splits.items()} == want


def test_tables_are_bounded_and_every_pass_gives_the_same(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = prepare(world)
    whole = all_rows(raw)
    monkeypatch.setattr(kuairand, "TABLE_ROWS", 7)
    assert max(table.num_rows for table in raw.splits["train"]()) == 7
    assert all_rows(raw) == whole == all_rows(prepare(world))


def test_the_schema_describes_the_columns_and_no_outcome_is_a_feature(world: Path, tmp_path: Path) -> None:
    raw = prepare(world)
    table = next(raw.splits["train"]())
    assert tuple(table.column_names) == raw_columns(raw.schema)
    assert not {"play_time_ms", "profile_stay_time", "comment_stay_time"} & set(table.column_names)
    spec = write_dataset(raw, tmp_path / "out")
    assert len(spec.features) == len(raw.schema.features)
    assert {task.name: task.group for task in spec.tasks} == {
        **dict.fromkeys(LABELS, "interaction"),
        **dict.fromkeys(("is_click", "long_view", "watch_time"), "watch"),
    }
    names = [task.name for task in spec.tasks]
    assert [(names[later], names[earlier]) for later, earlier in funnel(spec.tasks)] == [("long_view", "is_click")]


@pytest.mark.data
@pytest.mark.slow
def test_the_official_files() -> None:
    directory = os.environ.get("RECSYS_MTL_KUAIRAND")
    if directory is None:
        pytest.skip("RECSYS_MTL_KUAIRAND does not name a directory with the official KuaiRand-Pure files")
    raw = prepare(Path(directory))
    wanted = ["user_id", "video_id", "date", "time_ms", "is_click", "long_view"]
    logs = sorted(Path(directory).glob("log_standard_*_pure.csv*"))
    log = pl.concat(pl.read_csv(path, columns=wanted, infer_schema=False).cast(pl.Int64) for path in logs)
    log = log.sort("time_ms", maintain_order=True)
    assert sum(table.num_rows for split in raw.splits.values() for table in split()) == log.height
    tested = log.filter(pl.col("date") >= 20220503).head(100_000).with_row_index()
    table = next(raw.splits["test"]())
    for row in tested.head(table.num_rows).sample(50, seed=0).iter_rows(named=True):
        got = {name: column[0] for name, column in table.slice(row["index"], 1).to_pydict().items()}
        earlier = log.filter(pl.col("time_ms") < row["time_ms"])
        own = earlier.filter(pl.col("user_id") == row["user_id"])
        assert got["user_impressions"] == own.height
        assert got["video_impressions"] == (earlier["video_id"] == row["video_id"]).sum()
        assert got["user_clicks_known"] == own["is_click"].count()
        assert got["clicked_video_id"] == own.filter(pl.col("is_click") == 1)["video_id"].tail(50).to_list()
        assert got["long_viewed_video_id"] == own.filter(pl.col("long_view") == 1)["video_id"].tail(50).to_list()
