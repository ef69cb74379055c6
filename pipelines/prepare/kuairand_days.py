"""KuaiRand-Pure day by day: what lies before a first day, and every day from then on."""

from datetime import date
from pathlib import Path

import polars as pl

from pipelines.prepare.days import RawDays
from pipelines.prepare.kuairand import read_date, read_world
from pipelines.prepare.kuairand_counters import CROSSES
from pipelines.prepare.kuairand_files import find_files, read_logs
from pipelines.prepare.kuairand_history import HistoryLengths
from recsys_mtl.config import ConfigError
from recsys_mtl.data.day import RawDay
from recsys_mtl.data.raw import RawData


def prepare_days(
    source: Path, *, days_from: int, days_to: int | None = None, lengths: HistoryLengths | None = None
) -> RawDays:
    """Turn the official KuaiRand-Pure files into a base and days, by the log's date.

    The base validates on the last day before ``days_from`` and tests on the first day that comes.

    Raises:
        ConfigError: missing files or columns, cells that cannot be read, or dates that leave nothing.
    """
    first = read_date("days_from", days_from)
    last = None if days_to is None else read_date("days_to", days_to)
    files = find_files(source)
    log = read_logs(files.logs)
    before, days = _dates(log, first, last)
    world = read_world(files, log, lengths or HistoryLengths())
    day = pl.col("date")
    parts = {"train": day < before[-1], "valid": day == before[-1], "test": day == days[0]}
    base = RawData(world.schema, {name: world.where(part) for name, part in parts.items()}, CROSSES)
    return RawDays(base, tuple(RawDay(world.schema, one, world.where(day == one), CROSSES) for one in days))


def _dates(log: pl.DataFrame, first: date, last: date | None) -> tuple[list[date], list[date]]:
    """Return the dates with impressions before the first day, of which there must be two, and from it on."""
    dates: list[date] = log["date"].unique().sort().to_list()
    before = [day for day in dates if day < first]
    days = [day for day in dates if day >= first and (last is None or day <= last)]
    covered = f"the logs cover {dates[0]:%Y%m%d} to {dates[-1]:%Y%m%d}" if dates else "the logs have no rows"
    problems = []
    if len(before) < 2:
        problems.append(f"days_from: {first:%Y%m%d} leaves {len(before)} days before it, of two at least; {covered}")
    if not days:
        end = "on" if last is None else f"to {last:%Y%m%d}"
        problems.append(f"days_from: no impressions from {first:%Y%m%d} {end}; {covered}")
    if problems:
        raise ConfigError(problems)
    return before, days
