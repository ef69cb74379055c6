"""KuaiRand-Pure (Gao et al., CIKM 2022): from the official files to raw data with point-in-time features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa

from pipelines.prepare.kuairand_counters import CROSSES, counters
from pipelines.prepare.kuairand_files import SourceFiles, find_files, read_logs, read_users, read_videos
from pipelines.prepare.kuairand_history import BEHAVIOURS, Behaviours, HistoryLengths, arrow, behaviours
from pipelines.prepare.kuairand_schema import kuairand_schema
from recsys_mtl.config import ConfigError
from recsys_mtl.data.raw import SPLITS, RawData, raw_columns
from recsys_mtl.data.schema import Schema

VALID_FROM, TEST_FROM = 20220502, 20220503
"""Days from which the validation and the test split begin."""
TABLE_ROWS = 65_536
"""Rows per table that is handed over: features of users and videos and lists exist for so many rows at a time."""


def prepare(
    source: Path,
    *,
    valid_from: int = VALID_FROM,
    test_from: int = TEST_FROM,
    lengths: HistoryLengths | None = None,
) -> RawData:
    """Turn the official KuaiRand-Pure files in ``source`` into raw data, split by the log's date.

    Args:
        valid_from: first day of the validation split, YYYYMMDD; earlier days are for training.
        test_from: first day of the test split.
        lengths: how many earlier behaviours each impression sees.

    Raises:
        ConfigError: missing files or columns, cells that cannot be read, dates that leave a split empty.
    """
    cuts = read_cuts(valid_from, test_from)
    files = find_files(source)
    log = read_logs(files.logs)
    parts = split_filters(log, cuts)
    world = read_world(files, log, lengths or HistoryLengths())
    return RawData(world.schema, {name: world.where(part) for name, part in parts.items()}, CROSSES)


@dataclass(frozen=True)
class World:
    """All impressions in order of time with what lay before them, and the properties of users and videos."""

    schema: Schema
    impressions: pl.DataFrame
    users: pl.DataFrame
    videos: pl.DataFrame
    behaviours: list[Behaviours]

    def where(self, part: pl.Expr) -> Callable[[], Iterator[pa.Table]]:
        """Return the function that hands over the impressions of a part."""
        rows = self.impressions.filter(part)
        return Split(rows, self.users, self.videos, self.behaviours, raw_columns(self.schema)).tables


def read_world(files: SourceFiles, log: pl.DataFrame, lengths: HistoryLengths) -> World:
    """Compute the point-in-time features of every impression, once for all parts that are cut from them.

    Raises:
        ConfigError: missing columns, or cells that cannot be read.
    """
    users, videos = read_users(files.users), read_videos(files.videos)
    # Stable, so that impressions of one millisecond keep the files' order: the same files give the same rows.
    impressions = log.sort("time_ms", maintain_order=True).with_row_index("row")
    keys = videos.select("video_id", "author_id", "tag")
    impressions = impressions.join(keys, on="video_id", how="left", maintain_order="left")
    kinds = [behaviours(impressions, name, getattr(lengths, name)) for name in BEHAVIOURS]
    columns = [impressions.drop("author_id", "tag"), counters(impressions), *(kind.positions for kind in kinds)]
    return World(kuairand_schema(lengths), pl.concat(columns, how="horizontal"), users, videos, kinds)


def read_cuts(valid_from: int, test_from: int) -> tuple[date, date]:
    """Check the two dates that separate the splits."""
    problems: list[str] = []
    cuts: list[date] = []
    for name, value in (("valid_from", valid_from), ("test_from", test_from)):
        try:
            cuts.append(read_date(name, value))
        except ConfigError as error:
            problems += error.problems
    if not problems and cuts[0] >= cuts[1]:
        problems.append(f"test_from: {test_from} must be later than valid_from, which is {valid_from}")
    if problems:
        raise ConfigError(problems)
    return cuts[0], cuts[1]


def read_date(name: str, value: int) -> date:
    """Read a day.

    Raises:
        ConfigError: it is none.
    """
    try:
        return datetime.strptime(f"{value:08d}", "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise ConfigError([f"{name}: {value} is not a date YYYYMMDD"]) from None


def split_filters(log: pl.DataFrame, cuts: tuple[date, date]) -> dict[str, pl.Expr]:
    """Tell which impressions belong to which split, and refuse an empty one."""
    valid_from, test_from = cuts
    day = pl.col("date")
    filters = dict(
        zip(SPLITS, (day < valid_from, (day >= valid_from) & (day < test_from), day >= test_from), strict=True)
    )
    empty = [name for name, part in filters.items() if log.filter(part).is_empty()]
    if empty:
        days = log["date"].sort().dt.strftime("%Y%m%d")
        covered = "have no rows" if days.is_empty() else f"cover {days[0]} to {days[-1]}"
        raise ConfigError(
            f"{name}: no impression in this split: the logs {covered}, valid_from is {valid_from:%Y%m%d} and "
            f"test_from is {test_from:%Y%m%d}"
            for name in empty
        )
    return filters


@dataclass(frozen=True)
class Split:
    """The impressions of one split, in order of time, with all that their tables are built from."""

    impressions: pl.DataFrame
    users: pl.DataFrame
    videos: pl.DataFrame
    behaviours: list[Behaviours]
    columns: tuple[str, ...]

    def tables(self) -> Iterator[pa.Table]:
        """Hand over the impressions with all raw columns, one bounded table after the other."""
        for part in self.impressions.iter_slices(TABLE_ROWS):
            lists = {name: column for kind in self.behaviours for name, column in kind.lists(part).items()}
            flat = self.flat(part).select(name for name in self.columns if name not in lists)
            columns = lists | {name: arrow(flat[name]) for name in flat.columns}
            yield pa.table({name: columns[name] for name in self.columns})

    def flat(self, part: pl.DataFrame) -> pl.DataFrame:
        """Add what is known of the user, the video and the moment."""
        part = part.join(self.users, on="user_id", how="left", maintain_order="left")
        part = part.join(self.videos, on="video_id", how="left", maintain_order="left")
        # The rebuilt part of the earlier log gives an impression without a tab an invented time of day: one a minute,
        # back from the user's last one. Order by it is right, hours and days by it are not.
        moment = pl.from_epoch(pl.when(pl.col("tab").is_not_null()).then("time_ms"), time_unit="ms")
        # Beijing, and not by the log's hourmin: it names a later hour in 17 % of the rows, unknown beforehand.
        local = moment.dt.offset_by("8h")
        duration = pl.coalesce(pl.when(pl.col("duration_ms") > 0).then("duration_ms"), pl.col("video_duration"))
        return part.with_columns(
            local.dt.hour().alias("hour"),
            local.dt.weekday().alias("weekday"),
            (local.dt.date() - pl.col("upload_dt")).dt.total_days().alias("video_age_days"),
            (duration / 1000).alias("duration"),
            (pl.col("play_time_ms") / 1000).alias("watch_time"),
            pl.when(pl.col("server_width") > 0).then(pl.col("server_height") / pl.col("server_width")).alias("aspect"),
        )
