"""Directories that are written as a whole or not at all."""

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from recsys_mtl.config import ConfigError


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give a new directory beside ``out`` that takes its place at the end, or vanishes on any error.

    A process that is killed leaves its directory behind, under a hidden name, and ``out`` as it was. The next one that
    writes to the same ``out`` removes what is left: the lock of a dead process is free, on whatever machine it ran.

    Raises:
        ConfigError: the place cannot be written to.
    """
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(out)
        partial = _beside(out, "partial")
        partial.mkdir()
    except OSError as error:
        raise ConfigError([f"{out}: {error.strerror}"]) from None
    lock = _lock(partial)
    try:
        yield partial
        _swap(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _swap(partial: Path, out: Path) -> None:
    """Put ``partial`` at ``out``; what was there goes only after that."""
    if out.exists():
        out.rename(_beside(out, "old"))
    partial.rename(out)
    for old in _all_beside(out, "old"):
        shutil.rmtree(old, ignore_errors=True)


def _remove_stale(out: Path) -> None:
    """Remove the unfinished directories of processes that are gone."""
    for partial in _all_beside(out, "partial"):
        if (lock := _lock(partial)) is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


def _lock(directory: Path) -> int | None:
    """Lock a directory while this process lives; None if another one has it, or where there are no locks."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _beside(out: Path, role: str) -> Path:
    # Not the process id: in containers it is often the same.
    return out.with_name(f".{out.name}.{role}-{uuid4().hex[:12]}")


def _all_beside(out: Path, role: str) -> Iterator[Path]:
    return out.parent.glob(f".{glob.escape(out.name)}.{role}-*")
