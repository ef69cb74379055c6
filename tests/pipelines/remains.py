"""What a run must not leave behind, whatever happened to it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
SECONDS = 120
"""Ray's agents take a while to end."""


@contextmanager
def nothing_left() -> Iterator[None]:
    """Make sure that a block leaves neither processes of this one's nor shared memory that nobody holds any more."""
    processes, files = _processes(), set(SHARED_MEMORY.iterdir())
    yield
    deadline = time.monotonic() + SECONDS
    while left := _processes() - processes:
        assert time.monotonic() < deadline, f"processes were left behind: {[process.name() for process in left]}"
        time.sleep(0.2)
    new = {str(file) for file in set(SHARED_MEMORY.iterdir()) - files}
    assert new - _held(new) == set(), "shared memory was left behind"


def _processes() -> set[psutil.Process]:
    return {child for child in psutil.Process().children(recursive=True) if _lives(child)}


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _held(files: set[str]) -> set[str]:
    """Return those of the files that a living process, of whatever program, has mapped or open."""
    held = set()
    for process in Path("/proc").glob("[0-9]*") if files else ():
        with suppress(OSError):  # it has ended
            maps = (process / "maps").read_text(encoding="utf-8")
            opened = {str(link.readlink()) for link in (process / "fd").iterdir()}
            held |= {file for file in files if file in maps or file in opened}
    return held
