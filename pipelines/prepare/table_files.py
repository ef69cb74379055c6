"""The files of a table: found, opened lazily, and explained where they cannot be read."""

import csv
import glob
import gzip
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from pipelines.prepare.table_config import CsvOptions
from recsys_mtl.config import ConfigError

ROW = "_row"
"""Column with the position of a row in its file, from 0."""
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class TableFile:
    """One file: a lazy table with its column types."""

    path: str
    rows: pl.LazyFrame
    types: dict[str, pl.DataType]
    csv: CsvOptions | None
    """None for Parquet."""


def find(sources: Sequence[str]) -> list[str]:
    """Expand patterns into files, each once, in the order of their names; an address with ``://`` stays as it is.

    Raises:
        ConfigError: a pattern without files, or a folder.
    """
    paths: dict[str, None] = {}
    problems = [] if sources else ["source: no file given"]
    for source in sources:
        found = [source] if "://" in source else sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - any root
        files = [path for path in found if "://" in path or not Path(path).is_dir()]
        if not files:
            reason = f"is a folder; name its files, such as {source}/*.csv" if found else "no such file"
            problems.append(f"{source}: {reason}")
        paths |= dict.fromkeys(files)
    if problems:
        raise ConfigError(problems)
    return list(paths)


def open_file(path: str, options: CsvOptions | None, file_column: str | None = None) -> TableFile:
    """Open a file by its ending: Parquet, or else text with separators; add its name as ``file_column``.

    Raises:
        ConfigError: the file cannot be read, or its columns cannot be told apart.
    """
    with explained(path, options):
        if path.endswith(PARQUET):
            csv_options, rows = None, pl.scan_parquet(path, row_index_name=ROW)
        else:
            csv_options = options or CsvOptions()
            rows = _named(path, _scan_text(path, csv_options), csv_options)
        types = {name: dtype for name, dtype in rows.collect_schema().items() if name != ROW}
    if file_column is None:
        return TableFile(path, rows, types, csv_options)
    if file_column in types:
        raise ConfigError([f"{path}: the file has a column {file_column!r} itself; choose another file_column"])
    named = rows.with_columns(pl.lit(file_name(path)).alias(file_column))
    return TableFile(path, named, {**types, file_column: pl.String()}, csv_options)


def file_name(path: str) -> str:
    """Return the name of a file without its folders."""
    return path.rpartition("/")[2]


@contextmanager
def explained(path: str, options: CsvOptions | None) -> Iterator[None]:
    """Turn an error of the reader into one that names the file and, for text, the row.

    Raises:
        ConfigError: instead of the reader's error.
    """
    try:
        yield
    except pl.exceptions.NoDataError:
        raise ConfigError([f"{path}: the file is empty"]) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        is_text = not path.endswith(PARQUET) and "://" not in path
        broken = _broken_row(path, options or CsvOptions()) if is_text else None
        reason = broken or f"cannot be read: {str(error).splitlines()[0]}"
        raise ConfigError([f"{path}: {reason}"]) from None


def _scan_text(path: str, options: CsvOptions) -> pl.LazyFrame:
    """Read every cell as text: what a column should hold is the schema's business, not a guess."""
    return pl.scan_csv(
        path,
        separator=options.separator,
        has_header=options.header is None,
        quote_char=options.quote,
        comment_prefix=options.comment,
        infer_schema=False,
        row_index_name=ROW,
    )


def _named(path: str, rows: pl.LazyFrame, options: CsvOptions) -> pl.LazyFrame:
    found = [name for name in rows.collect_schema().names() if name != ROW]
    names = [name.strip() for name in options.header or found]
    if len(names) != len(found):
        raise ConfigError([f"{path}: csv.header names {len(names)} columns, the file has {len(found)}"])
    suffix = "_duplicated_0"  # what the reader appends to the second column of a name
    renamed = {name.removesuffix(suffix) for name in found if name.endswith(suffix)} & set(found)
    if twice := renamed | {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"{path}: column {name!r} appears twice" for name in sorted(twice))
    return rows.rename(dict(zip(found, names, strict=True)))


def _broken_row(path: str, options: CsvOptions) -> str | None:
    """Find the row that keeps a text file from being read; only taken where reading failed."""
    number = 0
    with _open_text(path) as lines:
        kept = (line for line in lines if not (options.comment and line.startswith(options.comment)))
        cells = csv.reader(kept, delimiter=options.separator, quotechar=options.quote, strict=True)
        try:
            first = next(cells, [])
            rows = cells if options.header is None else itertools.chain([first], cells)
            for number, row in enumerate(rows, start=1):
                if not all(cell.isprintable() or _is_utf8(cell) for cell in row):
                    return f"row {number}: is not UTF-8 text"
                if len(row) > len(first):
                    return f"row {number}: has {len(row)} cells where the file has {len(first)} columns"
        except csv.Error as error:
            return f"row {number + 1}: {error}; is a quotation mark not closed?"
    return None


def _open_text(path: str) -> IO[str]:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="")
    return Path(path).open(encoding="utf-8", errors="surrogateescape", newline="")


def _is_utf8(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True
