"""Which split a row belongs to."""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from pipelines.prepare.table_cells import Cells, Source, ids
from pipelines.prepare.table_config import ColumnSplit, DateSplit, FractionSplit
from pipelines.prepare.table_files import ROW
from recsys_mtl.data.raw import SPLITS

Floats = npt.NDArray[np.float64]

DATE_FORMATS = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ",
                "%Y-%m-%dT%H:%M:%S%.f")  # fmt: skip


def split_column(split: ColumnSplit | DateSplit | FractionSplit) -> str | None:
    """Column that a split reads, if it reads one."""
    return split.by if isinstance(split, FractionSplit) else split.column


def split_reader(split: ColumnSplit | DateSplit | FractionSplit) -> str:
    """Field that names this column."""
    return "split.by" if isinstance(split, FractionSplit) else "split.column"


def split_of(split: ColumnSplit | DateSplit | FractionSplit, source: Source | None, file: str) -> Cells:
    """Return the name of each row's split; ``source`` is the column that the split reads."""
    if isinstance(split, FractionSplit):
        return by_fraction(split, source, file)
    assert source is not None
    return by_column(split, source) if isinstance(split, ColumnSplit) else by_date(split, source)


def by_column(split: ColumnSplit, source: Source) -> Cells:
    """Look the split up by value."""
    names = {_text(value): name for name in SPLITS for value in getattr(split.values, name)}
    text = ids(source, as_text=True)
    known = ", ".join(names)
    unknown = source.check(~text.value.is_in(list(names)).fill_null(value=False), f"one of {known}: see split.values")
    return Cells(text.value.replace_strict(names, default=None, return_dtype=pl.String), (*text.checks, unknown))


def by_date(split: DateSplit, source: Source) -> Cells:
    """Compare a row's time with the first moments of the validation and the test split."""
    moment = _moments(source, split.epoch)
    wants = f"a count of {split.epoch} since 1970" if split.epoch else "a date such as 2022-05-02 or 20220502"
    past = pl.lit("train", dtype=pl.String)
    future = pl.when(moment < _literal(split.test_from)).then(pl.lit("valid")).otherwise(pl.lit("test"))
    value = pl.when(moment < _literal(split.valid_from)).then(past).otherwise(future)
    return Cells(pl.when(moment.is_not_null()).then(value), (source.check(moment.is_null(), wants),))


def by_fraction(split: FractionSplit, source: Source | None, file: str) -> Cells:
    """Compare a hash with the shares: of the column's text, or of the row's place in its file."""
    if source is None:
        key = xxhash.xxh64_intdigest(file.encode(), split.seed)
        return Cells(_per_batch(pl.col(ROW), lambda rows: _names(split, _row_shares(rows, key))))
    text = ids(source, as_text=True)
    value = _per_batch(text.value, lambda texts: _names(split, _text_shares(texts, split.seed)))
    return Cells(value, (*text.checks, source.check(text.value.is_null(), "a value to split by")))


def _per_batch(column: pl.Expr, function: Callable[[pl.Series], pl.Series]) -> pl.Expr:
    return column.map_batches(function, return_dtype=pl.String, is_elementwise=True)


def _names(split: FractionSplit, shares: Floats) -> pl.Series:
    """Cut [0, 1) into test, validation and training rows."""
    codes = (shares >= split.test).astype(np.int64) + (shares >= split.test + split.valid)
    return pl.Series(["test", "valid", "train"], dtype=pl.String).gather(codes)


def _row_shares(rows: pl.Series, key: int) -> Floats:
    """Return a number in [0, 1) per row: the row-th number of the SplitMix64 stream that begins at ``key``."""
    z = np.uint64(key) + (rows.to_numpy().astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return _unit(z ^ (z >> np.uint64(31)))


def _text_shares(texts: pl.Series, seed: int) -> Floats:
    """Return a number in [0, 1) per text, from its xxh64; every distinct text is hashed once."""
    distinct = texts.drop_nulls().unique()
    hashes = np.array([xxhash.xxh64_intdigest(text.encode(), seed) for text in distinct], dtype=np.uint64)
    shares = pl.Series(_unit(hashes), dtype=pl.Float64)
    return texts.replace_strict(distinct, shares, default=None, return_dtype=pl.Float64).to_numpy()


def _unit(hashes: npt.NDArray[np.uint64]) -> Floats:
    return (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53


def _moments(source: Source, epoch: str | None) -> pl.Expr:
    """Read times in UTC; what is no time becomes null."""
    if isinstance(source.dtype, pl.Datetime):
        utc = (
            source.expr.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            if source.dtype.time_zone
            else source.expr
        )
        return utc.cast(pl.Datetime("us"))
    if source.dtype == pl.Date:
        return source.expr.cast(pl.Datetime("us"))
    if not (source.is_text or source.dtype.is_numeric()):
        raise source.refuse("dates")
    if epoch is not None:
        number = source.expr.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
        return pl.from_epoch(number, time_unit="ms" if epoch == "ms" else "s").cast(pl.Datetime("us"))
    text = ids(source, as_text=True).value
    return pl.coalesce(
        text.str.to_datetime(form, strict=False, time_unit="us", time_zone=None) for form in DATE_FORMATS
    )


def _literal(moment: datetime) -> pl.Expr:
    return pl.lit(moment, dtype=pl.Datetime("us"))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
