"""Anybody's CSV or Parquet files, described by a schema file."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pipelines.prepare.table_cells import Check
from pipelines.prepare.table_config import DateSplit, TableConfig
from pipelines.prepare.table_files import ROW, TableFile, explained, find, open_file
from pipelines.prepare.table_plan import SPLIT, Plan, plan_file, together
from recsys_mtl.config import ConfigError, read_yaml, validate
from recsys_mtl.data.day import RawDay
from recsys_mtl.data.raw import SPLITS, RawData

BATCH_ROWS = 65_536


def prepare(schema_file: Path, sources: Sequence[str]) -> RawData:
    """Check a table against its schema in one pass over the files, and offer its splits in further passes.

    Args:
        schema_file: A `TableConfig` in YAML.
        sources: Files or patterns; all of them are one table.

    Raises:
        ConfigError: everything that is wrong with the schema; or else with the files and their columns; or else with
            their rows, of which the first is named for every column and file.
    """
    config = read_config(schema_file)
    plans, counts = plan_files(config, schema_file, sources)
    _refuse_empty(config, counts, plans)
    return RawData(config.schema_only(), {split: _batches(plans, [split]) for split in SPLITS}, config.crosses)


def prepare_day(schema_file: Path, sources: Sequence[str], day: date) -> RawDay:
    """Check one day of a table against its schema.

    Of a table that is split by date these are the rows of that day; of any other they are all rows, whatever the split.

    Raises:
        ConfigError: everything that is wrong, as `prepare` says it; or the day has no rows.
    """
    config = read_config(schema_file)
    wanted: tuple[str, ...] = SPLITS
    if isinstance(config.split, DateSplit):
        begin = datetime(day.year, day.month, day.day)
        split = config.split.model_copy(update={"valid_from": begin, "test_from": begin + timedelta(days=1)})
        config, wanted = config.model_copy(update={"split": split}), ("valid",)
    plans, counts = plan_files(config, schema_file, sources)
    if not any(counts[split] for split in wanted):
        others = sum(counts[split] for split in SPLITS)
        raise ConfigError([f"--day: no row is of {day}; the files hold {others:,} rows of other days"])
    return RawDay(config.schema_only(), day, _batches(plans, wanted), config.crosses)


def read_config(schema_file: Path) -> TableConfig:
    """Read a schema file.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    return validate(TableConfig, read_yaml(schema_file), where=f"{schema_file}: ")


def plan_files(config: TableConfig, schema_file: Path, sources: Sequence[str]) -> tuple[list[Plan], dict[str, int]]:
    """Plan how to read every file, check all rows, and count those of each split and the positives of each rule.

    Raises:
        ConfigError: what is wrong with the files and their columns; or else with their rows.
    """
    files: list[TableFile] = together(
        partial(open_file, path, config.csv, config.file_column) for path in find(sources)
    )
    if config.csv is not None and all(file.csv is None for file in files):
        raise ConfigError([f"{schema_file}: csv: would be ignored, no source is a text file"])
    texts = frozenset(name for file in files for name, dtype in file.types.items() if not dtype.is_numeric())
    plans: list[Plan] = together(partial(plan_file, config, file, texts) for file in files)
    counts: list[dict[str, int]] = together(partial(examine, config, plan) for plan in plans)
    return plans, {key: sum(count[key] for count in counts) for key in counts[0]}


def examine(config: TableConfig, plan: Plan) -> dict[str, int]:
    """Check every row of a file; return the rows of each split and the positives of each label rule.

    Raises:
        ConfigError: for every check that fails, its first row and how many there are.
    """
    facts = {split: (pl.col(SPLIT) == split).sum() for split in SPLITS}
    facts |= {f"labels.{name}": plan.columns[name].sum() for name in config.labels}
    for number, check in enumerate(plan.checks):
        facts[f"bad {number}"] = check.bad.sum()
        facts[f"row {number}"] = pl.col(ROW).filter(check.bad).min()
    with explained(plan.file.path, plan.file.csv):
        found = plan.rows().select(**facts).collect(engine="streaming").row(0, named=True)
    failed = [(check, found[f"bad {i}"], found[f"row {i}"]) for i, check in enumerate(plan.checks) if found[f"bad {i}"]]
    if failed:
        raise ConfigError(dict.fromkeys(_complaints(plan, failed)))
    return {key: found[key] or 0 for key in (*SPLITS, *(f"labels.{name}" for name in config.labels))}


def _complaints(plan: Plan, failed: list[tuple[Check, int, int]]) -> Iterator[str]:
    shown = {str(number): check.got for number, (check, _, _) in enumerate(failed)}
    rows = plan.rows().filter(pl.col(ROW).is_in([row for _, _, row in failed])).select(ROW, **shown).collect()
    cells = {row[ROW]: row for row in rows.iter_rows(named=True)}
    for number, (check, count, row) in enumerate(failed):
        got = cells[row][str(number)]
        value = "an empty cell" if got is None else f"{got!r:.80}"
        more = f" ({count:,} such rows)" if count > 1 else ""
        yield f"{plan.file.path}: column {check.column!r}, row {row + 1}: expected {check.wants}, got {value}{more}"


def _refuse_empty(config: TableConfig, counts: dict[str, int], plans: list[Plan]) -> None:
    if not any(counts[split] for split in SPLITS):
        raise ConfigError(["source: the files hold no rows"])
    sizes = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS)
    problems = [f"split: no row falls into {split!r} ({sizes})" for split in SPLITS if counts[split] == 0]
    for name, rule in config.labels.items():
        if counts[f"labels.{name}"] == 0:
            wanted = (
                f"reaches {rule.at_least}" if rule.positive is None else f"is {' or '.join(map(repr, rule.positive))}"
            )
            held = plans[0].rows().select(pl.col(rule.column).drop_nulls().unique().sort().head(5)).collect()
            seen = ", ".join(repr(value) for value in held.to_series())
            problems.append(f"labels.{name}: no cell of column {rule.column!r} {wanted}; it holds {seen}")
    if problems:
        raise ConfigError(problems)


def _batches(plans: Sequence[Plan], splits: Sequence[str]) -> Callable[[], Iterator[pa.Table]]:
    def start() -> Iterator[pa.Table]:
        for plan in plans:
            rows = plan.rows().filter(pl.col(SPLIT).is_in(splits)).select(**plan.columns)
            with explained(plan.file.path, plan.file.csv):
                for frame in rows.collect_batches(chunk_size=BATCH_ROWS, lazy=True):
                    if frame.height:
                        yield _plain(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))

    return start


def _plain(table: pa.Table) -> pa.Table:
    """Replace the large variants of text and lists, which a batch does not need."""
    return table.cast(pa.schema([(field.name, _plain_type(field.type)) for field in table.schema]))


def _plain_type(dtype: pa.DataType) -> Any:
    if pa.types.is_large_list(dtype):
        return pa.list_(_plain_type(dtype.value_type))
    return pa.string() if pa.types.is_large_string(dtype) else dtype
