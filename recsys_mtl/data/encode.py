"""The one encoder from raw values to model inputs, used on logged columns and on requests alike."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import yaml

from recsys_mtl.config import ConfigError, parse_yaml, validate
from recsys_mtl.data.feature_kinds import (
    FIRST_ID,
    MISSING_ID,
    UNKNOWN_ID,
    Feature,
    Hashing,
    IdFeature,
    IdPart,
    NumberFeature,
    SequenceFeature,
    column_of,
    table_of,
)
from recsys_mtl.data.lists import as_lists, lists_of, trim
from recsys_mtl.data.parquet import read_table
from recsys_mtl.data.spec import Spec
from recsys_mtl.data.values import (
    Array,
    FeatureError,
    Float32s,
    Floats,
    Int32s,
    Ints,
    as_float32,
    as_numbers,
    distinct_texts,
    first_where,
    single_array,
    text_of,
)
from recsys_mtl.storage import Location, Place, locate
from recsys_mtl.storage.stores import meaning

Directory = TypeVar("Directory", Path, Location)

HASH_SEED = 0


class Encoder:
    """Turns a table of raw values into one of ids (int32), lists of ids and dense numbers (float32).

    Column names of the result are those of the features and of the sequences' columns.
    """

    def __init__(self, spec: Spec, vocabularies: Mapping[str, list[str]]) -> None:
        self.spec = spec
        self.vocabularies = vocabularies

    @classmethod
    def load(cls, place: Place) -> "Encoder":
        """Read ``spec.yaml`` and ``vocab/`` of a prepared data set or a bundle.

        Raises:
            ConfigError: the specification is missing or broken, or a vocabulary is not the one that belongs to it.
        """
        directory = locate(place)
        path = directory / "spec.yaml"
        spec = validate(Spec, parse_yaml(path.read_bytes(), str(path)), where=f"{path}: ")
        return cls(spec, {table: _read_vocabulary(directory, table, spec) for table in spec.vocabularies})

    def save(self, directory: Path) -> None:
        """Write what `load` reads."""
        (directory / "vocab").mkdir(parents=True, exist_ok=True)
        for table, values in self.vocabularies.items():
            pq.write_table(pa.table({"value": pa.array(values, pa.string())}), vocabulary_file(directory, table))
        text = yaml.safe_dump(self.spec.model_dump(mode="json", exclude_none=True), sort_keys=False)
        (directory / "spec.yaml").write_text(text, encoding="utf-8")

    def encode(self, raw: pa.Table) -> pa.Table:
        """Encode every feature; a column that ``raw`` lacks counts as missing in every row.

        Raises:
            FeatureError: a value that its feature cannot take.
        """
        columns: dict[str, Array] = {}
        for feature in self.spec.features:
            columns |= self._encode_feature(feature, raw)
        return pa.table(columns)

    def index(self, table: str) -> dict[str, int]:
        """Return the row of every value of a table's vocabulary."""
        return self._indices[table]

    def _encode_feature(self, feature: Feature, raw: pa.Table) -> dict[str, Array]:
        if isinstance(feature, IdFeature):
            return {feature.name: pa.array(self._encode_id(feature, raw))}
        if isinstance(feature, NumberFeature):
            return {feature.name: pa.array(self._encode_number(feature, raw))}
        if isinstance(feature, SequenceFeature):
            return dict(self._encode_sequence(feature, raw))
        values, lengths = raw_lists(feature, raw, feature.separator)
        values, lengths = trim(values, lengths, feature.max_length, keep="first")
        return {feature.name: lists_of(self._ids(feature, values), lengths)}

    def _encode_id(self, feature: IdFeature, raw: pa.Table) -> Int32s:
        default = default_text(feature)
        missing = MISSING_ID if default is None else int(self._rows(table_of(feature), [default])[0])
        return self._ids(feature, raw_column(raw, column_of(feature)), missing)

    def _encode_sequence(self, feature: SequenceFeature, raw: pa.Table) -> Iterator[tuple[str, Array]]:
        expected: Ints | None = None
        for column in feature.columns:
            values, lengths = raw_lists(column, raw, feature.separator)
            expected = lengths if expected is None else expected
            if (row := first_where(lengths != expected)) is not None:
                first = column_of(feature.columns[0])
                message = f"{lengths[row]} events where {first} has {expected[row]}; a sequence's columns are aligned"
                raise FeatureError(column_of(column), message, row)
            values, kept = trim(values, lengths, feature.max_length, keep="last")
            yield column.name, lists_of(self._ids(column, values), kept)

    def _encode_number(self, feature: NumberFeature, raw: pa.Table) -> Int32s | Float32s:
        column = column_of(feature)
        numbers = as_numbers(raw_column(raw, column), column)
        if feature.boundaries is not None:
            return bucketise(feature, numbers)
        mean, deviation = self.spec.moments[feature.name] if feature.standardise else (0.0, 1.0)
        return as_float32((transform(feature, numbers) - mean) / deviation, column)

    def _ids(self, part: IdPart, values: Array, missing: int = MISSING_ID) -> Int32s:
        """Look every distinct value up once: a pass over rows is left to Arrow and NumPy."""
        texts, cells = distinct_texts(values, column_of(part))
        return self._rows(table_of(part), texts, missing)[cells]

    def _rows(self, table: str, texts: list[str | None], missing: int = MISSING_ID) -> Int32s:
        """Return the row of every text in an embedding table."""
        encoding = self.spec.table(table).encoding
        if isinstance(encoding, Hashing):
            rows = (missing if text is None else FIRST_ID + hash64(text) % encoding.buckets for text in texts)
        else:
            index = self._indices[table]
            rows = (missing if text is None else index.get(text, UNKNOWN_ID) for text in texts)
        return np.fromiter(rows, np.int32, len(texts))

    @cached_property
    def _indices(self) -> dict[str, dict[str, int]]:
        """Each vocabulary's values with their rows."""
        return {
            table: {value: row for row, value in enumerate(values, FIRST_ID)}
            for table, values in self.vocabularies.items()
        }


def hash64(text: str) -> int:
    """Hash a text to 64 bits, the same in every process, on every machine and with every version."""
    return xxhash.xxh64_intdigest(text.encode(), HASH_SEED)


def default_text(feature: IdFeature) -> str | None:
    """Return the text that stands in for an empty cell."""
    return text_of(feature.default)


def raw_column(raw: pa.Table, name: str) -> Array:
    """Return a raw column, or nulls where the table lacks it."""
    return single_array(raw[name]) if name in raw.column_names else pa.nulls(raw.num_rows)


def raw_lists(part: IdPart, raw: pa.Table, separator: str | None) -> tuple[Array, Ints]:
    """Return the flat values of a raw column of lists, and each row's length."""
    return as_lists(raw_column(raw, column_of(part)), column_of(part), separator)


def transform(feature: NumberFeature, numbers: Floats) -> Floats:
    """Fill, clip and scale a dense input, all but the standardisation."""
    filled = np.where(np.isnan(numbers), feature.default, numbers)
    clipped = filled if feature.clip is None else np.clip(filled, *feature.clip)
    return np.sign(clipped) * np.log1p(np.abs(clipped)) if feature.log1p else clipped


def bucketise(feature: NumberFeature, numbers: Floats) -> Int32s:
    """Number the bucket of each value; a value on a boundary belongs to the bucket above it."""
    clipped = numbers if feature.clip is None else np.clip(numbers, *feature.clip)
    buckets = np.searchsorted(np.asarray(feature.boundaries), clipped, side="right") + FIRST_ID
    return np.where(np.isnan(numbers), MISSING_ID, buckets).astype(np.int32)


def vocabulary_file(directory: Directory, table: str) -> Directory:
    """Name the file of a table's vocabulary."""
    return directory / "vocab" / f"{table}.parquet"


def _read_vocabulary(directory: Location, table: str, spec: Spec) -> list[str]:
    path = vocabulary_file(directory, table)
    try:
        values: list[str] = read_table(path)["value"].to_pylist()  # type: ignore[assignment]  # written without nulls
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ConfigError([f"{path}: not readable as a vocabulary: {meaning(error)}"]) from None
    if len(values) != (expected := spec.rows[table] - FIRST_ID):
        raise ConfigError([f"{path}: has {len(values)} values where {directory / 'spec.yaml'} expects {expected}"])
    return values
