"""Directories of an object store that are written as a whole or not at all: the file that makes them whole comes last.

An object store cannot rename a directory, as a disk can.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from recsys_mtl.config import ConfigError
from recsys_mtl.storage import Location

UNFINISHED = "_unfinished"
"""File that says that somebody writes to a directory, or was killed while writing: the next one may replace it."""
UPLOADS = 8
"""Files on their way at once."""
KIB = 1024


@contextmanager
def uploading(out: Location, *, last: str, progress: Callable[[int], object]) -> Iterator[Path]:
    """Give a new local directory whose files go to ``out`` at the end, or vanish on any error.

    A reader looks for the file ``last`` first: it goes before anything else of what was there before, and comes when
    everything else is there. ``progress`` is called with the KiB that arrived.

    Raises:
        ConfigError: the place cannot be written to, which is found out first.
    """
    mark = out / UNFINISHED
    mark.write_text("")
    try:
        with TemporaryDirectory(prefix="recsys-mtl-") as directory:
            yield Path(directory)
            _replace(Path(directory), out, last, progress)
    finally:
        with suppress(ConfigError):  # a store that is gone has said so already
            mark.remove()


def _replace(directory: Path, out: Location, last: str, progress: Callable[[int], object]) -> None:
    try:
        (out / last).remove()
        _clear(out)
        _upload(directory, out, last, progress)
    except BaseException:
        with suppress(ConfigError):
            _clear(out)
        raise


def _upload(directory: Path, out: Location, last: str, progress: Callable[[int], object]) -> None:
    names = sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())
    names.remove(last)

    def upload(name: str) -> int:
        (out / name).upload(directory / name)
        return -(-(directory / name).stat().st_size // KIB)

    with ThreadPoolExecutor(UPLOADS) as pool:
        for size in pool.map(upload, names):
            progress(size)
    progress(upload(last))


def _clear(out: Location) -> None:
    """Remove everything but the mark."""
    for child in out.children():
        if child.name != UNFINISHED:
            child.remove()
