"""The specification of a prepared data set: its schema, and what was fitted on its training split."""

import hashlib
import json
from collections.abc import Mapping

from recsys_mtl.data.feature_kinds import FIRST_ID, Hashing, NumberFeature
from recsys_mtl.data.schema import Schema, table_readers


class Spec(Schema):
    """A schema with its fitted parts. Equal fingerprints mean equal encodings."""

    rows: dict[str, int] = {}
    """Rows of every embedding table, with the unknown and the missing row."""
    moments: dict[str, tuple[float, float]] = {}
    """Mean and standard deviation of every standardised number, after its other transforms."""
    fingerprint: str = ""
    """Hash of everything above and of the vocabularies."""


def make_spec(
    schema: Schema, vocabularies: Mapping[str, list[str]], moments: Mapping[str, tuple[float, float]]
) -> Spec:
    """Complete a schema with table sizes, moments and the fingerprint of the whole."""
    tables = dict.fromkeys(table for _, table in table_readers(schema))
    rows = {table: table_rows(schema, table, vocabularies) for table in tables}
    for feature in schema.features:
        if isinstance(feature, NumberFeature) and feature.boundaries is not None:
            rows[feature.name] = FIRST_ID + len(feature.boundaries) + 1
    spec = Spec(**schema.model_dump(), rows=rows, moments=dict(moments))
    return spec.model_copy(update={"fingerprint": fingerprint(spec, vocabularies)})


def table_rows(schema: Schema, table: str, vocabularies: Mapping[str, list[str]]) -> int:
    """Count the rows of a table: the two special ones, and one per value or bucket."""
    encoding = schema.table(table).encoding
    return FIRST_ID + (encoding.buckets if isinstance(encoding, Hashing) else len(vocabularies[table]))


def fingerprint(spec: Spec, vocabularies: Mapping[str, list[str]]) -> str:
    """Hash the schema, the fitted numbers and every vocabulary's values in their order."""
    content = spec.model_dump(mode="json", exclude={"fingerprint"})
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for table in sorted(vocabularies):
        digest.update(json.dumps([table, vocabularies[table]]).encode())
    return digest.hexdigest()[:16]
