"""Growth: an encoding that continues an earlier one, so that a model of that one can go on with it.

Rows of tables keep their numbers and inputs keep their scale. Only new values get rows, behind all others.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.data.schema import Schema
from recsys_mtl.data.spec import Spec


class Fitted(Protocol):
    """What was learnt from a training split, such as an encoder holds it."""

    @property
    def spec(self) -> Spec:
        """Its specification."""

    @property
    def vocabularies(self) -> Mapping[str, list[str]]:
        """Its values by table, in the order of their rows."""


def refuse_other_schema(base: Spec, schema: Schema) -> None:
    """Make sure that an encoding can continue ``base``.

    Raises:
        ConfigError: every difference between the two schemas.
    """
    if found := list(schema_differences(base, schema)):
        raise ConfigError(found)


def schema_differences(base: Schema, schema: Schema) -> Iterator[str]:
    """List what differs between two schemas, each with both values."""
    yield from input_differences(base, schema)
    yield from _named("tasks", _by_name(base.tasks), _by_name(schema.tasks))
    for key in ("group", "item", "weight"):
        if (old_key := getattr(base, key)) != (new_key := getattr(schema, key)):
            yield _changed(key, old_key, new_key)
    tables = dict.fromkeys([*base.tables, *schema.tables])
    old, new = ({name: _plain(one.table(name)) for name in tables} for one in (base, schema))
    yield from _named("tables", old, new)


def input_differences(base: Schema, schema: Schema) -> Iterator[str]:
    """List the features that differ: what a column means, and where it stands among a model's inputs."""
    old, new = _by_name(base.features), _by_name(schema.features)
    yield from _named("features", old, new)
    if old.keys() == new.keys() and list(old) != list(new):
        yield f"features: the base has them in the order {', '.join(old)}"


def scale_differences(base: Spec, spec: Spec) -> Iterator[str]:
    """List the numbers that are standardised otherwise: the same value would reach the model as another."""
    for name, moments in base.moments.items():
        if name in spec.moments and spec.moments[name] != moments:
            yield _changed(f"moments.{name}", moments, spec.moments[name])


def growth_differences(old: Fitted, new: Fitted) -> Iterator[str]:
    """List what keeps data from being read with an earlier encoding's model: all but values that are new."""
    yield from schema_differences(old.spec, new.spec)
    yield from scale_differences(old.spec, new.spec)
    for table, values in old.vocabularies.items():
        if new.vocabularies.get(table, [])[: len(values)] != values:
            yield f"tables.{table}: its first {len(values):,} values are not those of the base"


def _by_name(parts: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
    return {part.name: _plain(part) for part in parts}


def _plain(part: Config) -> dict[str, Any]:
    return part.model_dump(mode="json")


def _named(field: str, base: Mapping[str, dict[str, Any]], new: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Compare parts of a schema by their names, setting by setting."""
    for name in dict.fromkeys([*base, *new]):
        if name not in new or name not in base:
            yield f"{field}.{name}: only the {'base' if name in base else 'new data'} has it"
            continue
        old, now = base[name], new[name]
        for key in dict.fromkeys([*old, *now]):
            if old.get(key) != now.get(key):
                yield _changed(f"{field}.{name}.{key}", old.get(key), now.get(key))


def _changed(path: str, old: object, new: object) -> str:
    return f"{path}: {old!r} in the base, {new!r} here; what continues a data set keeps its schema"
