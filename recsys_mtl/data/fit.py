"""What is learnt from the training split before anything is encoded: vocabularies and moments."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_mtl.data.encode import raw_column, transform
from recsys_mtl.data.schema import (
    Feature,
    IdFeature,
    IdsFeature,
    NumberFeature,
    Schema,
    SequenceFeature,
    Vocabulary,
    column_of,
    table_of,
    table_readers,
)
from recsys_mtl.data.spec import Spec, make_spec
from recsys_mtl.data.values import as_lists, as_numbers, as_text


def fit(schema: Schema, chunks: Iterable[pa.Table]) -> tuple[Spec, dict[str, list[str]]]:
    """Read the training split once; return the fitted specification and the vocabularies."""
    counter, moments = ValueCounter(schema), MomentSums(schema)
    for chunk in chunks:
        counter.update(chunk)
        moments.update(chunk)
    vocabularies = counter.vocabularies()
    return make_spec(schema, vocabularies, moments.moments()), vocabularies


class ValueCounter:
    """Counts the values of every table with a vocabulary.

    A table's values are counted where id features and bags read it, so that a minimum count means impressions; only a
    table that nothing but sequences read is counted in these.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.counts: dict[str, Counter[str]] = {}
        readers = table_readers(schema)
        counted = {table for feature, table in readers if not isinstance(feature, SequenceFeature)}
        self.readers: list[tuple[Feature, str]] = []
        for feature, table in readers:
            if isinstance(schema.table(table).encoding, Vocabulary):
                self.counts[table] = Counter()
                if table not in counted or not isinstance(feature, SequenceFeature):
                    self.readers.append((feature, table))

    def update(self, chunk: pa.Table) -> None:
        """Add a chunk of raw rows."""
        for feature, table in self.readers:
            for texts in raw_texts(feature, table, chunk):
                counted = pc.value_counts(texts.drop_null())
                values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
                self.counts[table].update(dict(zip(values, counts, strict=True)))

    def vocabularies(self) -> dict[str, list[str]]:
        """Return every table's values, the most frequent first, equals in the order of their text."""
        return {table: self._kept(table, counts) for table, counts in self.counts.items()}

    def _kept(self, table: str, counts: Counter[str]) -> list[str]:
        encoding = self.schema.table(table).encoding
        assert isinstance(encoding, Vocabulary)
        frequent = [(value, count) for value, count in counts.items() if count >= encoding.min_count]
        frequent.sort(key=lambda pair: (-pair[1], pair[0]))
        return [value for value, _ in frequent[: encoding.max_size]]


class MomentSums:
    """Sums for the mean and the deviation of standardised numbers."""

    def __init__(self, schema: Schema) -> None:
        self.features = [f for f in schema.features if isinstance(f, NumberFeature) and f.standardise]
        self.sums = np.zeros((len(self.features), 3))

    def update(self, chunk: pa.Table) -> None:
        """Add a chunk of raw rows."""
        for row, feature in zip(self.sums, self.features, strict=True):
            name = column_of(feature)
            values = transform(feature, as_numbers(raw_column(chunk, name), name))
            row += len(values), values.sum(), (values**2).sum()

    def moments(self) -> dict[str, tuple[float, float]]:
        """Return mean and deviation by feature; a constant gets deviation 1."""
        result = {}
        for (count, total, squares), feature in zip(self.sums, self.features, strict=True):
            mean = total / max(count, 1)
            variance = squares / max(count, 1) - mean**2
            result[feature.name] = (float(mean), float(np.sqrt(variance)) if variance > 1e-12 else 1.0)
        return result


def raw_texts(feature: Feature, table: str, chunk: pa.Table) -> Iterable[pa.Array]:
    """Give the texts that a feature contributes to a table."""
    if isinstance(feature, IdFeature):
        yield as_text(raw_column(chunk, column_of(feature)))
        return
    assert isinstance(feature, IdsFeature | SequenceFeature)
    for part in feature.columns if isinstance(feature, SequenceFeature) else (feature,):
        if table_of(part) == table:
            name = column_of(part)
            yield as_text(as_lists(raw_column(chunk, name), name, feature.separator)[0])
