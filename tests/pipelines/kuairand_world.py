"""A hundred impressions in KuaiRand-Pure's official layout, and what must be known before each of them."""

import csv
import gzip
import math
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from pipelines.prepare.kuairand_counters import COUNTED
from pipelines.prepare.kuairand_files import LABELS, LOG, USERS, VIDEOS
from pipelines.prepare.kuairand_history import BEHAVIOURS, EVENT_COLUMNS, HistoryLengths
from recsys_mtl.data.raw import RawData

Row = dict[str, Any]

EARLIER, LATER = "log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv.gz"
USER_FILE, VIDEO_FILE = "user_features_pure.csv", "video_features_basic_pure.csv.gz"
LENGTHS = HistoryLengths(clicked=4, liked=2, long_viewed=3)
MIDNIGHT_MS = 1650816000000  # 2022-04-25 00:00 in Beijing
HOUR_MS = 3_600_000


def text_file(path: Path, mode: Literal["rt", "wt"]) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, mode, newline="")
    return path.open(mode, newline="")


def read_csv(path: Path) -> list[Row]:
    with text_file(path, "rt") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: list[Row]) -> None:
    with text_file(path, "wt") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_world(directory: Path, logs: dict[str, list[Row]], users: list[Row], videos: list[Row]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, rows in (logs | {USER_FILE: users, VIDEO_FILE: videos}).items():
        write_csv(directory / name, rows)
    return directory


def impression(rng: random.Random, time_ms: int, *, rebuilt: bool) -> Row:
    moment = datetime.fromtimestamp(time_ms / 1000 + 8 * 3600, UTC)
    row: Row = dict.fromkeys(LOG, "")
    row |= {"user_id": rng.randrange(5), "video_id": rng.randrange(9), "time_ms": time_ms, "date": f"{moment:%Y%m%d}"}
    row |= {"long_view": rng.randrange(2), "is_like": int(rng.random() < 0.3)}
    if not rebuilt:
        row |= {label: int(rng.random() < 0.4) for label in LABELS}
        row |= {"play_time_ms": rng.choice([0, 900, 45_123, 700_000]), "duration_ms": rng.choice([0, 6500, 90_000])}
        row |= {"tab": rng.randrange(3), "is_hate": rng.choice(["", 0, 1])}
    return row


def make_logs(seed: int = 0) -> dict[str, list[Row]]:
    rng = random.Random(seed)
    earlier = [impression(rng, MIDNIGHT_MS - rng.randrange(1, 40) * 60_000, rebuilt=True) for _ in range(50)]
    # 11 days, few distinct moments: about every second impression shares its millisecond with another.
    later = [impression(rng, MIDNIGHT_MS + rng.randrange(88) * 3 * HOUR_MS, rebuilt=False) for _ in range(90)]
    return {EARLIER: earlier, LATER: sorted(later, key=lambda row: row["time_ms"])}


def make_users() -> list[Row]:
    empty = {name: "" if kind == "text" else 1 for name, kind in USERS.items()}
    users = [empty | {"user_id": user, "follow_user_num": 10 * user} for user in range(5)]
    users[0] |= {"user_active_degree": "UNKNOWN", "is_live_streamer": -124, "onehot_feat4": "3.0", "onehot_feat12": ""}
    users[1] |= {"user_active_degree": "full_active"}
    return users


def make_videos() -> list[Row]:
    tags = ["39", "39,68", "", "68", "12,62,39", "7", "39", "68,39"]
    blank = {name: 0 if kind == "integer" else "" for name, kind in VIDEOS.items()}
    return [  # the ninth video is in the logs only
        blank
        | {"video_id": v, "author_id": v // 2, "tag": tag, "upload_dt": "2022-04-10", "video_duration": 5000.0 + v}
        for v, tag in enumerate(tags)
    ]


def merged(logs: dict[str, list[Row]], videos: list[Row]) -> list[Row]:
    info = {video["video_id"]: video for video in videos}
    rows = [
        row | info.get(row["video_id"], {"author_id": "", "tag": ""}) for name in sorted(logs) for row in logs[name]
    ]
    rows = [{key: None if value == "" else value for key, value in row.items()} for row in rows]
    return sorted(rows, key=lambda row: int(row["time_ms"]))


def ratio(rows: list[Row], label: str) -> tuple[int, int]:
    known = [row[label] for row in rows if row[label] is not None]
    return sum(known), len(known)


def expected_lift(seen: list[Row], everything: list[Row], label: str) -> float:
    (positive, known), (all_positive, all_known) = ratio(seen, label), ratio(everything, label)
    world = (all_positive + 0.5) / (all_known + 1)
    weight = 10 + 1 / world
    rate = (positive + weight * world) / (known + weight)
    return math.log(rate / (1 - rate)) - math.log(world / (1 - world))


def expected_watch(seen: list[Row], everything: list[Row]) -> float:
    def seconds(rows: list[Row]) -> list[float]:
        return [min(row["play_time_ms"] / 1000, 300) for row in rows if row["play_time_ms"] is not None]

    world = sum(seconds(everything)) / max(len(seconds(everything)), 1)
    return math.log1p((sum(seconds(seen)) + 10 * world) / (len(seconds(seen)) + 10)) - math.log1p(world)


def seen_before(row: Row, earlier: list[Row], entity: str) -> list[Row]:
    def keys(of: Row) -> list[tuple[Any, ...]]:
        tags = of["tag"].split(",") if of["tag"] else []
        expanded = [of | {"one_tag": tag} for tag in tags] if "one_tag" in COUNTED[entity] else [of]
        return [key for x in expanded if None not in (key := tuple(x[name] for name in COUNTED[entity]))]

    return [other for other in earlier for key in keys(other) if key in keys(row)]


def expected(row: Row, rows: list[Row]) -> Row:
    earlier = [other for other in rows if other["time_ms"] < row["time_ms"]]
    result: Row = {}
    for entity in COUNTED:
        seen = seen_before(row, earlier, entity)
        result[f"{entity}_impressions"] = len(seen)
        result[f"{entity}_clicks_known"] = ratio(seen, "is_click")[1]
        result |= {f"{entity}_{label}_lift": expected_lift(seen, earlier, label) for label in LABELS}
        result[f"{entity}_watch_time_lift"] = expected_watch(seen, earlier)
    for name, label in BEHAVIOURS.items():
        events = [other for other in earlier if other["user_id"] == row["user_id"] and other[label] == 1]
        events = events[-getattr(LENGTHS, name) :]
        result |= {f"{name}_{column}": [event[column] for event in events] for column in EVENT_COLUMNS}
    return result


def all_rows(raw: RawData) -> list[Row]:
    return [row for split in ("train", "valid", "test") for table in raw.splits[split]() for row in table.to_pylist()]
