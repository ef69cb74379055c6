"""Parquet files wherever they are: mapped into memory from a disk, in few requests from an object store."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

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


def footers(files: list[Location]) -> tuple[dict[Location, pq.FileMetaData], list[str]]:
    """Read what files say of their row groups; of those that are not readable, what is wrong.

    Raises:
        ConfigError: the store of the files does not answer.
    """
    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = dict(zip(files, pool.map(_footer, files), strict=True))
    found = {file: answer for file, answer in answers.items() if isinstance(answer, pq.FileMetaData)}
    return found, [answer for answer in answers.values() if isinstance(answer, str)]


def _footer(file: Location) -> pq.FileMetaData | str:
    try:
        with opened(file) as parquet:
            return parquet.metadata
    except UNREADABLE as error:
        problem = f"{file}: not readable as Parquet: {meaning(error)}"
        if is_refusal(error):
            raise ConfigError([problem]) from None
        return problem
