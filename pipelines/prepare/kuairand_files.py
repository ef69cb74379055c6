"""Reads KuaiRand-Pure's official files and tells which file, column and row a problem lies in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from recsys_mtl.config import ConfigError

Kind = Literal["integer", "amount", "flag", "day", "iso_day", "text"]

LABELS = (
    "is_click",
    "long_view",
    "is_like",
    "is_profile_enter",
    "is_comment",
    "is_follow",
    "is_forward",
    "is_hate",
)
"""The log's binary feedback signals."""

LOG: Mapping[str, Kind] = {
    "user_id": "integer",
    "video_id": "integer",
    "date": "day",
    "time_ms": "integer",
    **dict.fromkeys(LABELS, "flag"),
    "play_time_ms": "amount",
    "duration_ms": "amount",
    "tab": "integer",
}

USERS: Mapping[str, Kind] = {
    "user_id": "integer",
    "user_active_degree": "text",
    "is_lowactive_period": "integer",
    "is_live_streamer": "integer",
    "is_video_author": "integer",
    "follow_user_num": "amount",
    "follow_user_num_range": "text",
    "fans_user_num": "amount",
    "fans_user_num_range": "text",
    "friend_user_num": "amount",
    "friend_user_num_range": "text",
    "register_days": "amount",
    "register_days_range": "text",
    **{f"onehot_feat{i}": "integer" for i in range(18)},
}

VIDEOS: Mapping[str, Kind] = {
    "video_id": "integer",
    "author_id": "integer",
    "video_type": "text",
    "upload_dt": "iso_day",
    "upload_type": "text",
    "video_duration": "amount",
    "server_width": "amount",
    "server_height": "amount",
    "music_id": "integer",
    "music_type": "integer",
    "tag": "text",
}

NEVER_EMPTY = ("user_id", "video_id", "date", "time_ms")

EXPECTED: Mapping[Kind, str] = {
    "integer": "an integer",
    "amount": "a number of 0 or more",
    "flag": "0, 1 or empty",
    "day": "a date YYYYMMDD",
    "iso_day": "a date YYYY-MM-DD",
}


@dataclass(frozen=True)
class SourceFiles:
    """Where the official files lie."""

    logs: tuple[Path, ...]
    users: Path
    videos: Path


def find_files(source: Path) -> SourceFiles:
    """Find the log, user and video files in ``source``, plain or gzipped.

    Raises:
        ConfigError: every kind of file that is not there, or that is there twice.
    """
    if not source.is_dir():
        raise ConfigError([f"{source}: no such directory"])
    logs = sorted(path for end in ("csv", "csv.gz") for path in source.glob(f"log_standard_*_pure.{end}"))
    users, videos = (existing(source, name) for name in ("user_features_pure", "video_features_basic_pure"))
    wanted = {"log_standard_*_pure": logs, "user_features_pure": users, "video_features_basic_pure": videos}
    problems = [f"{source}: no file {name}.csv or {name}.csv.gz" for name, found in wanted.items() if not found]
    doubled = (path for path in (*logs, *users, *videos) if path.with_name(f"{path.name}.gz").is_file())
    problems += [f"{path}: stands beside {path.name}.gz; keep one of the two" for path in doubled]
    if problems:
        raise ConfigError(problems)
    return SourceFiles(tuple(logs), users[0], videos[0])


def existing(source: Path, stem: str) -> list[Path]:
    """List the plain and the gzipped file of this name that exist."""
    return [path for end in ("csv", "csv.gz") if (path := source / f"{stem}.{end}").is_file()]


def read_logs(paths: tuple[Path, ...]) -> pl.DataFrame:
    """Read every impression, file after file."""
    return pl.concat([read_csv(path, LOG) for path in paths])


def read_users(path: Path) -> pl.DataFrame:
    """Read the users' features; -124 is the data set's own mark of an unknown flag."""
    users = unique(read_csv(path, USERS), "user_id", path)
    return users.with_columns(pl.col("is_live_streamer").replace(-124, None))


def read_videos(path: Path) -> pl.DataFrame:
    """Read the videos' basic features; music 0 is the data set's own mark of an unknown one."""
    videos = unique(read_csv(path, VIDEOS), "video_id", path)
    return videos.with_columns(pl.col("music_id").replace(0, None))


def unique(frame: pl.DataFrame, key: str, path: Path) -> pl.DataFrame:
    """Refuse a key that has two rows: it would multiply impressions."""
    if (repeated := frame[key].is_duplicated()).any():
        row = int(repeated.arg_true()[-1])
        raise ConfigError([f"{path}: column {key!r}, row {row + 1}: {frame[key][row]} has more than one row"])
    return frame


def read_csv(path: Path, kinds: Mapping[str, Kind]) -> pl.DataFrame:
    """Read the columns of ``kinds``, typed; empty cells and ``UNKNOWN`` are null.

    Raises:
        ConfigError: not a CSV file, its missing columns, or the first bad cell of every column.
    """
    try:
        text = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError([f"{path}: not a readable CSV file: {error}"]) from None
    if missing := [name for name in kinds if name not in text.columns]:
        raise ConfigError(f"{path}: no column {name!r}" for name in missing)
    text = text.select(pl.col(name).replace("", None) for name in kinds)
    values = text.select(parsed(name, kind) for name, kind in kinds.items())
    problems = [problem for name in kinds if (problem := first_problem(text[name], values[name], kinds[name]))]
    if problems:
        raise ConfigError(f"{path}: {problem}" for problem in problems)
    return values


def parsed(name: str, kind: Kind) -> pl.Expr:
    """Turn a text column into its kind; what does not fit becomes null."""
    text = pl.col(name)
    match kind:
        case "text":
            return text.replace("UNKNOWN", None)
        case "day":
            return text.str.to_date("%Y%m%d", strict=False)
        case "iso_day":
            return text.str.to_date("%Y-%m-%d", strict=False)
        case "amount":
            number = text.cast(pl.Float64, strict=False)
            return pl.when(number.is_finite() & (number >= 0)).then(number).alias(name)
        case "flag":
            whole = integer(text)
            return pl.when(whole.is_in([0, 1])).then(whole).cast(pl.Int8).alias(name)
        case "integer":
            return integer(text)


def integer(text: pl.Expr) -> pl.Expr:
    """Read whole numbers; the official files write some of them as ``9.0``."""
    number = text.cast(pl.Float64, strict=False)
    return text.cast(pl.Int64, strict=False).fill_null(
        pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False)
    )


def first_problem(text: pl.Series, values: pl.Series, kind: Kind) -> str | None:
    """Describe the first cell that does not fit its column, if there is one."""
    bad = values.is_null() & (text.is_not_null() if text.name not in NEVER_EMPTY else True)
    if kind == "text" or not bad.any():
        return None
    row = int(bad.arg_true()[0])
    found = "is empty" if text[row] is None else f"{text[row]!r} is not {EXPECTED[kind]}"
    return f"column {text.name!r}, row {row + 1}: {found}"
