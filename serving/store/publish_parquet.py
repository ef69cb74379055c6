"""Publishing to files: new ones beside the old, then the description that names them, then the old ones go."""

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import ConfigError
from recsys_mtl.data.newest import Keyed, last_rows
from recsys_mtl.storage import Location
from serving.store.publication import FILE, Entity, Publication, read_publication, read_published
from serving.store.tables import Table, digest, generation_of


def current(place: Location) -> Publication | None:
    """Return what is published."""
    return read_publication(place)


def publish(place: Location, tables: dict[Keyed, Table]) -> Publication:
    """Put tables in the place of what is there."""
    generation = generation_of(tables)
    entities: dict[Keyed, Entity] = {}
    for entity, table in tables.items():
        file = f"{entity}s-{generation}.parquet"
        sink = pa.BufferOutputStream()
        pq.write_table(table.rows, sink, compression="zstd")
        (place / file).write_bytes(sink.getvalue().to_pybytes())
        columns = tuple(table.rows.column_names)
        entities[entity] = Entity(key=table.key, columns=columns, rows=table.rows.num_rows, file=file)
    publication = Publication(generation=generation, content=digest(tables), entities=entities)
    (place / FILE).write_text(publication.model_dump_json(indent=2))
    own = {facts.file for facts in entities.values()}
    for old in [*place.children("users-*.parquet"), *place.children("items-*.parquet")]:
        if old.name not in own:
            old.remove()
    return publication


def merged(place: Location, tables: dict[Keyed, Table]) -> dict[Keyed, Table]:
    """Add what is published of other keys, and of other entities.

    Raises:
        ConfigError: what is published has other columns.
    """
    publication, published = read_published(place)
    result = dict(tables)
    for entity, rows in published.items():
        key = publication.entities[entity].key
        own = tables.get(entity)
        if own is None:
            result[entity] = Table(rows, key, (), 0)
        else:
            refuse_other_columns(publication.entities[entity], own)
            both = pa.concat_tables([rows, own.rows], promote_options="permissive")
            result[entity] = Table(last_rows(both, key), key, own.left_out, own.dropped)
    return result


def refuse_other_columns(published: Entity, table: Table) -> None:
    """Make sure that rows can stand beside published ones.

    Raises:
        ConfigError: they have other columns.
    """
    if published.columns != tuple(table.rows.column_names):
        theirs = ", ".join(published.columns[:-1])
        raise ConfigError([f"--update: other columns are published ({theirs}): publish without --update"])
