"""What a store holds: the description that readers look at first, and that is replaced last."""

from collections.abc import Mapping
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import Config, ConfigError, validate
from recsys_mtl.data.newest import Keyed
from recsys_mtl.data.parquet import UNREADABLE
from recsys_mtl.storage import Location
from recsys_mtl.storage.stores import meaning
from serving.store.address import ParquetAddress, read_address

AS_OF = "_as_of_ms"
"""Column with the moment up to which a row knows what happened; later events are added to its histories."""
FILE = "publication.json"
RETRIES = 5


class Entity(Config):
    """Rows of one entity."""

    key: str
    """Raw column that identifies it."""
    columns: tuple[str, ...]
    """Raw columns, and `AS_OF`, in the order in which Redis holds their values."""
    rows: int
    file: str | None = None
    """Name of the Parquet file."""


class Publication(Config):
    """One publication of a store's rows; events that were added since are not part of it."""

    version: Literal[1] = 1
    """Layout of the store."""
    generation: str
    """Tells publications apart; names of files and keys have it."""
    content: str
    """Hash of the rows: what is published already need not be published again."""
    entities: Mapping[Keyed, Entity]


def parse_publication(content: bytes, where: str) -> Publication:
    """Read a publication.

    Raises:
        ConfigError: it is not one that this release can read.
    """
    try:
        return Publication.model_validate_json(content)
    except ValueError:
        pass
    return validate(Publication, {}, where=f"{where}: not a publication of this release: ")


def read_publication(place: Location) -> Publication | None:
    """Read what a directory says that it holds; nothing if nothing was published to it."""
    file = place / FILE
    return parse_publication(file.read_bytes(), str(file)) if file.exists() else None


def check_store(text: str | None) -> None:
    """Find out at once, before a server is started for it, that files of a store are not there.

    Raises:
        ConfigError: nothing is published. A Redis server may come to be while the service runs.
    """
    address = None if text is None else read_address(text)
    if isinstance(address, ParquetAddress) and read_publication(address.place) is None:
        raise ConfigError([f"store: {unpublished(address.place)}"])


def unpublished(place: Location) -> str:
    """Say that nothing is published."""
    return f"{place} holds no published features; see `recsys-mtl publish-features`"


def read_published(place: Location) -> tuple[Publication, dict[Keyed, pa.Table]]:
    """Read a directory's rows, all of one publication, also while another one takes its place.

    Raises:
        ConfigError: nothing was published, or a file is damaged.
    """
    problem = ""
    for _ in range(RETRIES):
        publication = read_publication(place)
        if publication is None:
            raise ConfigError([unpublished(place)])
        try:
            return publication, {
                entity: _read(place / str(facts.file)) for entity, facts in publication.entities.items()
            }
        except UNREADABLE as error:  # the files of an earlier publication go when the next one is there
            problem = f"{place}: {meaning(error)}"
    raise ConfigError([problem])


def _read(file: Location) -> pa.Table:
    # Not mapped into memory: a row that has to be read from the disk first is late.
    with file.filesystem.open_input_file(file.path) as source:
        return pq.read_table(source).combine_chunks()
