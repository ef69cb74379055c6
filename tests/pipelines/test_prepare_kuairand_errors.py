from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.prepare.kuairand import prepare
from recsys_mtl.config import ConfigError
from tests.pipelines.kuairand_world import (
    EARLIER,
    LATER,
    USER_FILE,
    VIDEO_FILE,
    Row,
    make_logs,
    make_users,
    make_videos,
    read_csv,
    write_csv,
    write_world,
)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "source", make_logs(), make_users(), make_videos())


def remove(name: str) -> Callable[[Path], None]:
    return lambda source: (source / name).unlink()


def edit(name: str, change: Callable[[list[Row]], object]) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        path = source / name
        rows = read_csv(path)
        change(rows)
        write_csv(path, rows)

    return apply


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no users": (remove(USER_FILE), "no file user_features_pure.csv or user_features_pure.csv.gz"),
    "file twice": (
        lambda source: write_csv(source / f"{EARLIER}.gz", make_logs()[EARLIER]),
        f"{EARLIER}: stands beside {EARLIER}.gz; keep one of the two",
    ),
    "column": (edit(LATER, lambda rows: [row.pop("tab") for row in rows]), f"{LATER}: no column 'tab'"),
    "label": (
        edit(LATER, lambda rows: rows[4].update(is_like="2")),
        f"{LATER}: column 'is_like', row 5: '2' is not 0, 1 or empty",
    ),
    "empty key": (
        edit(EARLIER, lambda rows: rows[0].update(user_id="")),
        f"{EARLIER}: column 'user_id', row 1: is empty",
    ),
    "id": (
        edit(VIDEO_FILE, lambda rows: rows[2].update(author_id="1.5")),
        f"{VIDEO_FILE}: column 'author_id', row 3: '1.5' is not an integer",
    ),
    "amount": (
        edit(LATER, lambda rows: rows[7].update(play_time_ms="-3")),
        f"{LATER}: column 'play_time_ms', row 8: '-3' is not a number of 0 or more",
    ),
    "day": (
        edit(EARLIER, lambda rows: rows[9].update(date="20220431")),
        f"{EARLIER}: column 'date', row 10: '20220431' is not a date YYYYMMDD",
    ),
    "user twice": (
        edit(USER_FILE, lambda rows: rows.append(rows[0])),
        f"{USER_FILE}: column 'user_id', row 6: 0 has more than one row",
    ),
    "not gzip": (
        lambda source: (source / VIDEO_FILE).write_bytes(b"\x1f\x8b\x00garbage"),
        f"{VIDEO_FILE}: not a readable",
    ),
    "no rows": (lambda source: (source / USER_FILE).write_text(""), f"{USER_FILE}: not a readable CSV file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_column_and_row(world: Path, name: str) -> None:
    damage, message = BROKEN[name]
    damage(world)
    with pytest.raises(ConfigError) as caught:
        prepare(world)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_all_absent_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(tmp_path)
    assert [problem.split(": no file ")[1].split(".csv")[0] for problem in caught.value.problems] == [
        "log_standard_*_pure",
        "user_features_pure",
        "video_features_basic_pure",
    ]
    with pytest.raises(ConfigError, match="no such directory"):
        prepare(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("valid_from", "test_from", "message"),
    [
        (20220502, 20230101, "test: no impression in this split: the logs cover 20220424 to 20220505"),
        (20200101, 20220503, "train: no impression in this split"),
        (20220503, 20220503, "test_from: 20220503 must be later than valid_from, which is 20220503"),
        (20220231, 20220503, "valid_from: 20220231 is not a date YYYYMMDD"),
    ],
)
def test_dates_that_leave_a_split_empty_are_refused(world: Path, valid_from: int, test_from: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        prepare(world, valid_from=valid_from, test_from=test_from)
