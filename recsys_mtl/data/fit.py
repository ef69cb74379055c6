"""What is learnt from the training split before anything is encoded: vocabularies and moments."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from recsys_mtl.data.encode import default_text, raw_column, raw_lists, transform
from recsys_mtl.data.feature_kinds import (
    Feature,
    IdFeature,
    IdPart,
    IdsFeature,
    NumberFeature,
    SequenceFeature,
    Vocabulary,
    column_of,
    table_of,
)
from recsys_mtl.data.growth import Fitted, refuse_other_schema
from recsys_mtl.data.schema import Schema, id_parts
from recsys_mtl.data.spec import Spec, make_spec
from recsys_mtl.data.values import as_numbers, distinct_texts, refuse_large


def fit(schema: Schema, chunks: Iterable[pa.Table], base: Fitted | None = None) -> tuple[Spec, dict[str, list[str]]]:
    """Read the training split once; return the fitted specification and the vocabularies.

    What grows from a ``base`` keeps its rows and its moments, and new values come behind them.

    Raises:
        ConfigError: the base has another schema.
        FeatureError: a value that its feature cannot take.
    """
    if base is not None:
        refuse_other_schema(base.spec, schema)
    counter, moments = ValueCounter(schema), MomentSums(schema)
    for chunk in chunks:
        counter.update(chunk)
        moments.update(chunk)
    if base is None:
        vocabularies = counter.vocabularies()
        return make_spec(schema, vocabularies, moments.moments()), vocabularies
    vocabularies = counter.vocabularies(base.vocabularies)
    return make_spec(schema, vocabularies, base.spec.moments, grown_from=base.spec.fingerprint), vocabularies


class ValueCounter:
    """Counts the values of every table with a vocabulary.

    A table's values are counted where id features and bags read it, so that a minimum count means impressions; only a
    table that nothing but sequences read is counted in these.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.counts: dict[str, Counter[str]] = {table: Counter() for table in schema.vocabularies}
        pairs = [(feature, part) for feature, part in id_parts(schema) if table_of(part) in self.counts]
        single = {table_of(part) for feature, part in pairs if not isinstance(feature, SequenceFeature)}
        self.readers = [
            (feature, part)
            for feature, part in pairs
            if not isinstance(feature, SequenceFeature) or table_of(part) not in single
        ]

    def update(self, chunk: pa.Table) -> None:
        """Add a chunk of raw rows."""
        for feature, part in self.readers:
            counts = self.counts[table_of(part)]
            for text, count in _counted(feature, part, chunk):
                if text is not None:
                    counts[text] += count

    def vocabularies(self, known: Mapping[str, list[str]] | None = None) -> dict[str, list[str]]:
        """Return every table's values, the most frequent first, equals in the order of their text.

        Values that are ``known`` already come before all others, in the order that they have.
        """
        known = known or {}
        return {table: self._kept(table, counts, known.get(table, [])) for table, counts in self.counts.items()}

    def _kept(self, table: str, counts: Counter[str], known: list[str]) -> list[str]:
        encoding = self.schema.table(table).encoding
        assert isinstance(encoding, Vocabulary)
        new = counts.keys() - set(known)
        frequent = [(-counts[value], value) for value in new if counts[value] >= encoding.min_count]
        return [*known, *(value for _, value in sorted(frequent))][: encoding.max_size]


class MomentSums:
    """Mean and spread of standardised numbers, merged chunk by chunk.

    Plain sums of squares lose all digits of large numbers that differ little, such as times. The update is that of
    Chan, Golub and LeVeque (1983).
    """

    def __init__(self, schema: Schema) -> None:
        self.features = [f for f in schema.features if isinstance(f, NumberFeature) and f.standardise]
        self.sums = np.zeros((len(self.features), 3))
        """Count, mean and sum of squared deviations of each feature."""

    def update(self, chunk: pa.Table) -> None:
        """Add a chunk of raw rows."""
        for i, feature in enumerate(self.features):
            name = column_of(feature)
            values = transform(feature, as_numbers(raw_column(chunk, name), name))
            refuse_large(values, name)
            if values.size:
                self.sums[i] = _merged(self.sums[i], np.array([values.size, values.mean(), values.var() * values.size]))

    def moments(self) -> dict[str, tuple[float, float]]:
        """Return mean and deviation by feature; a constant gets deviation 1."""
        result = {}
        for (count, mean, squares), feature in zip(self.sums, self.features, strict=True):
            deviation = np.sqrt(squares / max(count, 1))
            varies = deviation > 1e-12 * abs(mean)  # less than that is rounding
            result[feature.name] = (float(mean), float(deviation) if varies else 1.0)
        return result


def _counted(feature: Feature, part: IdPart, chunk: pa.Table) -> Iterable[tuple[str | None, int]]:
    """Pair the distinct values of a raw column with their numbers; a feature's default counts where it stands in."""
    column = column_of(part)
    if isinstance(feature, IdFeature):
        texts, cells = distinct_texts(raw_column(chunk, column), column)
        default = default_text(feature)
        texts = [default if text is None else text for text in texts]
    else:
        assert isinstance(feature, IdsFeature | SequenceFeature)
        texts, cells = distinct_texts(raw_lists(part, chunk, feature.separator)[0], column)
    return zip(texts, np.bincount(cells, minlength=len(texts)).tolist(), strict=True)


def _merged(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Join two (count, mean, squared deviations)."""
    count, step = a[0] + b[0], b[1] - a[1]
    return np.array([count, a[1] + step * b[0] / count, a[2] + b[2] + step**2 * a[0] * b[0] / count])
