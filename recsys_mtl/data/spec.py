"""The specification of a prepared data set: its schema, and what was fitted on its training split."""

import hashlib
import json
from collections.abc import Mapping

from pydantic import model_validator

from recsys_mtl.config import ConfigError
from recsys_mtl.data.feature_kinds import FIRST_ID, Hashing, NumberFeature
from recsys_mtl.data.schema import Schema, table_readers


class Spec(Schema):
    """A schema with its fitted parts. Equal fingerprints mean equal encodings."""

    rows: dict[str, int] = {}
    """Rows of every embedding table, with the unknown and the missing row."""
    moments: dict[str, tuple[float, float]] = {}
    """Mean and standard deviation of every standardised number, after its other transforms."""
    grown_from: str | None = None
    """Fingerprint of the specification that this one continues: its rows and moments are the same here."""
    fingerprint: str = ""
    """Hash of everything above and of the vocabularies."""

    @model_validator(mode="after")
    def _is_fitted(self) -> "Spec":
        numbers = [feature for feature in self.features if isinstance(feature, NumberFeature)]
        tables = [table for _, table in table_readers(self)] + [f.name for f in numbers if f.boundaries is not None]
        absent = [f"rows.{table}" for table in dict.fromkeys(tables) if table not in self.rows]
        absent += [f"moments.{f.name}" for f in numbers if f.standardise and f.name not in self.moments]
        if absent:
            raise ConfigError(f"{field}: field required" for field in absent)
        return self


def make_spec(
    schema: Schema,
    vocabularies: Mapping[str, list[str]],
    moments: Mapping[str, tuple[float, float]],
    *,
    grown_from: str | None = None,
) -> Spec:
    """Complete a schema with table sizes, moments and the fingerprint of the whole."""
    rows = table_rows(schema, vocabularies)
    spec = Spec(**schema.model_dump(), rows=rows, moments=dict(moments), grown_from=grown_from)
    return spec.model_copy(update={"fingerprint": fingerprint(spec, vocabularies)})


def table_rows(schema: Schema, vocabularies: Mapping[str, list[str]]) -> dict[str, int]:
    """Count the rows of every table: the two special ones, and one per value, hash or range."""
    rows = {}
    for table in dict.fromkeys(table for _, table in table_readers(schema)):
        encoding = schema.table(table).encoding
        rows[table] = FIRST_ID + (encoding.buckets if isinstance(encoding, Hashing) else len(vocabularies[table]))
    for feature in schema.features:
        if isinstance(feature, NumberFeature) and feature.boundaries is not None:
            rows[feature.name] = FIRST_ID + len(feature.boundaries) + 1
    return rows


def fingerprint(spec: Spec, vocabularies: Mapping[str, list[str]]) -> str:
    """Hash the schema, the fitted numbers and every vocabulary's values in their order."""
    origin = {"grown_from"} if spec.grown_from is None else set()  # fingerprints from before there was any stay
    content = spec.model_dump(mode="json", exclude={"fingerprint"} | origin)
    for task in content["tasks"]:
        if task.get("negative_rate") == 1:  # the same for rates: fingerprints from before stay
            del task["negative_rate"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for table in sorted(vocabularies):
        digest.update(json.dumps([table, vocabularies[table]]).encode())
    return digest.hexdigest()[:16]
