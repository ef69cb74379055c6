"""Parquet files wherever they are: mapped into memory from a disk, in few requests from an object store."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mtl.config import ConfigError
from recsys_mtl.storage import Location
from recsys_mtl.storage.stores import is_refusal, meaning

UNREADABLE = (OSError, ValueError, pa.ArrowException)
"""What pyarrow raises of a damaged file; ValueError where a name in the footer is no text any more."""
REQUESTS = 16
"""Footers that are asked for at once: an object store takes its time for each."""


@contextmanager
def opened(file: Location, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; with its ``footer``, known from before, nothing is read yet."""
    with file.open() as source:
        # Pieces of a row group that lie together are one request; where memory is mapped that would be a copy.
        yield pq.ParquetFile(source, metadata=footer, pre_buffer=not file.is_local, page_checksum_verification=True)


def read_table(file: Location) -> pa.Table:
    """Read a whole file."""
    with opened(file) as parquet:
        return parquet.read()


@dataclass(frozen=True)
class Contents:
    """What a file says of its row groups."""

    rows: list[int]
    """Of each row group."""
    footer: pq.FileMetaData | None
    """To open the file with. Parsed it takes a kilobyte for each column of a row group, so that of large data it is
    kept only where reading it again is another request."""


def contents(files: list[Location]) -> tuple[dict[Location, Contents], list[str]]:
    """Read what files say of their row groups; of those that are not readable, what is wrong.

    Raises:
        ConfigError: the store of the files does not answer.
    """
    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = dict(zip(files, pool.map(_contents, files), strict=True))
    found = {file: answer for file, answer in answers.items() if isinstance(answer, Contents)}
    return found, [answer for answer in answers.values() if isinstance(answer, str)]


def _contents(file: Location) -> Contents | str:
    try:
        with opened(file) as parquet:
            footer = parquet.metadata
            rows = [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
            return Contents(rows, None if file.is_local else footer)
    except UNREADABLE as error:
        problem = f"{file}: not readable as Parquet: {meaning(error)}"
        if is_refusal(error):
            raise ConfigError([problem]) from None
        return problem
