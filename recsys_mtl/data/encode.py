"""The one encoder from raw values to model inputs, used on logged columns and on requests alike."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import yaml

from recsys_mtl.config import read_yaml, validate
from recsys_mtl.data.schema import (
    FIRST_ID,
    MISSING_ID,
    UNKNOWN_ID,
    Feature,
    Hashing,
    IdFeature,
    IdsFeature,
    NumberFeature,
    SequenceColumn,
    SequenceFeature,
    column_of,
    table_of,
)
from recsys_mtl.data.spec import Spec
from recsys_mtl.data.values import (
    FeatureError,
    array,
    as_lists,
    as_numbers,
    as_text,
    first_where,
    lists_of,
    single_array,
    trim,
)

Int32s = npt.NDArray[np.int32]
HASH_SEED = 0


class Encoder:
    """Turns a table of raw values into one of ids (int32), lists of ids and dense numbers (float32).

    Column names of the result are those of the features and of the sequences' columns.
    """

    def __init__(self, spec: Spec, vocabularies: Mapping[str, list[str]]) -> None:
        self.spec = spec
        self.vocabularies = vocabularies

    @classmethod
    def load(cls, directory: Path) -> "Encoder":
        """Read ``spec.yaml`` and ``vocab/`` of a prepared data set or a bundle.

        Raises:
            ConfigError: the specification is missing or broken.
        """
        path = directory / "spec.yaml"
        spec = validate(Spec, read_yaml(path), where=f"{path}: ")
        files = sorted((directory / "vocab").glob("*.parquet"))
        return cls(spec, {file.stem: pq.read_table(file)["value"].to_pylist() for file in files})

    def save(self, directory: Path) -> None:
        """Write what `load` reads."""
        (directory / "vocab").mkdir(parents=True, exist_ok=True)
        for table, values in self.vocabularies.items():
            pq.write_table(pa.table({"value": pa.array(values, pa.string())}), directory / "vocab" / f"{table}.parquet")
        text = yaml.safe_dump(self.spec.model_dump(mode="json", exclude_none=True), sort_keys=False)
        (directory / "spec.yaml").write_text(text, encoding="utf-8")

    def encode(self, raw: pa.Table) -> pa.Table:
        """Encode every feature; a column that ``raw`` lacks counts as missing in every row.

        Raises:
            FeatureError: a value that its feature cannot take.
        """
        columns: dict[str, pa.Array] = {}
        for feature in self.spec.features:
            columns |= dict(self._encode_feature(feature, raw))
        return pa.table(columns)

    def _encode_feature(self, feature: Feature, raw: pa.Table) -> Iterator[tuple[str, pa.Array]]:
        if isinstance(feature, IdFeature):
            yield feature.name, pa.array(self._encode_id(feature, raw))
        elif isinstance(feature, IdsFeature):
            values, lengths = as_lists(raw_column(raw, column_of(feature)), column_of(feature), feature.separator)
            mask, kept = trim(lengths, feature.max_length, keep="first")
            yield feature.name, lists_of(self._ids(table_of(feature), as_text(values))[mask], kept)
        elif isinstance(feature, SequenceFeature):
            yield from self._encode_sequence(feature, raw)
        else:
            yield feature.name, pa.array(self._encode_number(feature, raw))

    def _encode_id(self, feature: IdFeature, raw: pa.Table) -> Int32s:
        texts = as_text(raw_column(raw, column_of(feature)))
        if feature.default is not None:
            texts = texts.fill_null(as_text(array([feature.default]))[0])
        return self._ids(table_of(feature), texts)

    def _encode_sequence(self, feature: SequenceFeature, raw: pa.Table) -> Iterator[tuple[str, pa.Array]]:
        expected: npt.NDArray[np.int64] | None = None
        for column in feature.columns:
            values, lengths = self._events(feature, column, raw)
            expected = lengths if expected is None else expected
            if (row := first_where(lengths != expected)) is not None:
                first = column_of(feature.columns[0])
                message = f"{lengths[row]} events where {first} has {expected[row]}; a sequence's columns are aligned"
                raise FeatureError(column_of(column), message, row)
            mask, kept = trim(lengths, feature.max_length, keep="last")
            yield column.name, lists_of(self._ids(table_of(column), as_text(values))[mask], kept)

    @staticmethod
    def _events(
        feature: SequenceFeature, column: SequenceColumn, raw: pa.Table
    ) -> tuple[pa.Array, npt.NDArray[np.int64]]:
        name = column_of(column)
        return as_lists(raw_column(raw, name), name, feature.separator)

    def _encode_number(self, feature: NumberFeature, raw: pa.Table) -> npt.NDArray[Any]:
        numbers = as_numbers(raw_column(raw, column_of(feature)), column_of(feature))
        if feature.boundaries is not None:
            return bucketise(feature, numbers)
        mean, deviation = self.spec.moments.get(feature.name, (0.0, 1.0))
        return ((transform(feature, numbers) - mean) / deviation).astype(np.float32)

    def _ids(self, table: str, texts: pa.Array) -> Int32s:
        """Look every distinct text up once: a pass over rows is left to Arrow and NumPy."""
        coded = texts.dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        ids = np.append(self._lookup(table, distinct), np.int32(MISSING_ID)).astype(np.int32)
        return ids[coded.indices.fill_null(len(distinct)).to_numpy()]  # type: ignore[no-any-return]

    def _lookup(self, table: str, texts: list[str]) -> Int32s:
        encoding = self.spec.table(table).encoding
        if isinstance(encoding, Hashing):
            hashes = (xxhash.xxh64_intdigest(text.encode(), HASH_SEED) % encoding.buckets + FIRST_ID for text in texts)
            return np.fromiter(hashes, np.int32, len(texts))
        index = self._indices[table]
        return np.fromiter((index.get(text, UNKNOWN_ID) for text in texts), np.int32, len(texts))

    @cached_property
    def _indices(self) -> dict[str, dict[str, int]]:
        """Each vocabulary's values with their rows."""
        return {
            table: dict(zip(values, range(FIRST_ID, FIRST_ID + len(values)), strict=True))
            for table, values in self.vocabularies.items()
        }


def raw_column(raw: pa.Table, name: str) -> pa.Array:
    """Return a raw column, or nulls where the table lacks it."""
    return single_array(raw[name]) if name in raw.column_names else pa.nulls(raw.num_rows)


def transform(feature: NumberFeature, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fill, clip and scale a dense input, all but the standardisation."""
    filled = np.where(np.isnan(numbers), feature.default, numbers)
    clipped = filled if feature.clip is None else np.clip(filled, *feature.clip)
    return np.sign(clipped) * np.log1p(np.abs(clipped)) if feature.log1p else clipped


def bucketise(feature: NumberFeature, numbers: npt.NDArray[np.float64]) -> Int32s:
    """Number the bucket of each value; a value on a boundary belongs to the bucket above it."""
    clipped = numbers if feature.clip is None else np.clip(numbers, *feature.clip)
    buckets = np.searchsorted(np.asarray(feature.boundaries), clipped, side="right") + FIRST_ID
    return np.where(np.isnan(numbers), MISSING_ID, buckets).astype(np.int32)
