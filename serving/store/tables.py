"""Tables to publish: read, checked as a model would read them, and in types that every store keeps as they are."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pyarrow as pa

from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.newest import FEATURES, FILES, Keyed, key_texts, last_rows, stored_columns
from recsys_mtl.data.parquet import UNREADABLE, read_table
from recsys_mtl.data.values import FeatureError, as_text, single_array
from recsys_mtl.storage import Location, Place, locate
from recsys_mtl.storage.stores import meaning
from serving.store.publication import AS_OF

CHECK_ROWS = 65_536


@dataclass(frozen=True)
class Table:
    """Rows of one entity."""

    rows: pa.Table
    """A row for each key, with `AS_OF` as their last column."""
    key: str
    left_out: tuple[str, ...]
    """Raw columns that models read of this entity and that the rows do not have."""
    dropped: int
    """Rows without a key, and rows that a later one of the same key replaces."""


def read_tables(data: Place, given: Mapping[Keyed, Place | None], as_of_ms: int) -> dict[Keyed, Table]:
    """Read the tables of a prepared data set, or those given in their place.

    Raises:
        ConfigError: there is none, or a given one cannot be read or has no key or none of the features.
        FeatureError: a value that its feature cannot take.
    """
    encoder = Encoder.load(data)
    tables: dict[Keyed, Table] = {}
    for entity, (key, names) in stored_columns(encoder.spec).items():
        own = given.get(entity)
        file = locate(data) / FEATURES / FILES[entity] if own is None else locate(own)
        if own is not None or file.exists():
            tables[entity] = made(file, key, names, encoder, as_of_ms)
    if not tables:
        problem = f"{data}: has no {FEATURES}/: prepare it again with this release, or give --users and --items"
        raise ConfigError([problem])
    return tables


def made(file: Location, key: str, names: list[str], encoder: Encoder, as_of_ms: int) -> Table:
    """Read and check one table."""
    table = _read(file)
    found = [name for name in names if name in table.column_names]
    if key not in found or len(found) == 1:
        wanted = f"the key {key!r} and some of {', '.join(names[1:])}"
        raise ConfigError([f"{file}: needs columns: {wanted}; it has {', '.join(table.column_names)}"])
    try:
        rows = last_rows(table.select(found), key)
        plain = pa.table({name: _plain(single_array(rows[name]), name) for name in found})
        for start in range(0, plain.num_rows, CHECK_ROWS):
            _check(plain.slice(start, CHECK_ROWS), start, encoder)
    except FeatureError as error:
        raise ConfigError([f"{file}: {error}"]) from None
    moments = pa.array([as_of_ms] * plain.num_rows, pa.int64())
    left_out = tuple(name for name in names if name not in found)
    return Table(plain.append_column(AS_OF, moments), key, left_out, table.num_rows - plain.num_rows)


def digest(tables: Mapping[Keyed, Table]) -> str:
    """Hash the rows, but not the moments: equal contents are one publication."""
    hashed = hashlib.sha256()
    for entity, table in sorted(tables.items()):
        hashed.update(f"{entity} {table.key}".encode())
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.rows.drop_columns([AS_OF]).schema) as stream:
            stream.write_table(table.rows.drop_columns([AS_OF]).combine_chunks())
        hashed.update(sink.getvalue())
    return hashed.hexdigest()[:16]


def generation_of(tables: Mapping[Keyed, Table]) -> str:
    """Name a publication: no two have the same name, not even of equal contents."""
    return f"{digest(tables)}-{uuid4().hex[:8]}"


def keys_of(table: Table) -> list[str]:
    """Return every row's key."""
    return [str(key) for key in key_texts(table.rows, table.key).to_pylist()]


def batches(table: Table, rows: int) -> Iterator[Table]:
    """Cut a table."""
    for start in range(0, table.rows.num_rows, rows):
        yield Table(table.rows.slice(start, rows), table.key, table.left_out, 0)


def _read(file: Location) -> pa.Table:
    try:
        return read_table(file)
    except UNREADABLE as error:
        raise ConfigError([f"{file}: not readable as Parquet: {meaning(error)}"]) from None


def _check(rows: pa.Table, start: int, encoder: Encoder) -> None:
    try:
        encoder.encode(rows)
    except FeatureError as error:
        raise FeatureError(error.column, error.message, None if error.row is None else start + error.row) from None


def _plain(values: Any, name: str) -> Any:
    """Return ids, numbers, truth values and text as they are; write days and the like as the encoder would."""
    dtype = values.type
    if isinstance(values, pa.DictionaryArray):
        return _plain(values.dictionary_decode(), name)
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        flat = _plain(values.flatten(), name)
        return values.cast(pa.list_(flat.type))
    if pa.types.is_integer(dtype) or pa.types.is_boolean(dtype) or pa.types.is_null(dtype):
        return values
    return values.cast(pa.float64()) if pa.types.is_floating(dtype) else as_text(values, name)
