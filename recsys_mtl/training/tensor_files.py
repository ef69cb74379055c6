"""The files of a checkpoint's tensors: torch.distributed.checkpoint's format, on any file system."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import fs
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemBase, FileSystemReader, FileSystemWriter

from recsys_mtl.storage import Location


class TensorWriter(FileSystemWriter):
    """Writes the tensors of all workers into a directory, a file for each worker."""

    def __init__(self, place: Location) -> None:
        super().__init__(place.path, sync_files=place.is_local)  # an object store has nothing to synchronise
        self.fs = _files(place)
        self.path = self.fs.init_path(place.path)


class TensorReader(FileSystemReader):
    """Reads tensors, or the parts of them that this worker holds, and does not take damaged ones."""

    def __init__(self, place: Location) -> None:
        super().__init__(place.path)
        self.fs = _files(place)
        self.path = self.fs.init_path(place.path)

    def _slice_file(self, file: Any, sinfo: Any) -> Any:
        """Return a tensor's bytes: one request to a store, and a window on a file of this machine.

        Raises:
            ValueError: they are not those that were written; torch writes checksums, but does not look at them.
        """
        file.seek(sinfo.offset)
        piece = pa.BufferReader(file.read_buffer(sinfo.length))
        if not _is_whole(piece):
            raise ValueError(f"{sinfo.relative_path} does not hold what was written")
        piece.seek(0)
        return piece


class LocalFiles(FileSystem):
    """Files of this machine, or of a folder that it shares; those that are read are mapped into memory."""

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        """Open a file."""
        opened = pa.memory_map(str(path)) if mode == "rb" else super().create_stream(path, mode)
        with opened as stream, _honest():
            yield stream


class RemoteFiles(FileSystemBase):
    """Objects of a store."""

    def __init__(self, store: fs.FileSystem) -> None:
        self.store = store

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        """Open an object."""
        opened = self.store.open_output_stream if "w" in mode else self.store.open_input_file
        with opened(str(path)) as stream, _honest():
            yield stream

    def concat_path(self, path: str | os.PathLike[str], suffix: str) -> str:
        """Name an object in a directory."""
        return f"{path}/{suffix}"

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        """Move an object."""
        self.store.move(str(path), str(new_path))

    def init_path(self, path: str | os.PathLike[str]) -> str:
        """Return the path of a directory."""
        return str(path)

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Do nothing: a directory is there with its first object."""

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether there is an object."""
        return bool(self.store.get_file_info(str(path)).type != fs.FileType.NotFound)

    def rm_file(self, path: str | os.PathLike[str]) -> None:
        """Remove an object."""
        self.store.delete_file(str(path))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Take any path: which store it is in has been decided."""
        return bool(checkpoint_id)


def _files(place: Location) -> Any:  # FileSystemWriter takes any FileSystemBase, and declares one of them
    return LocalFiles() if place.is_local else RemoteFiles(place.filesystem)


def _is_whole(piece: pa.NativeFile) -> bool:
    try:
        with zipfile.ZipFile(piece) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


@contextmanager
def _honest() -> Iterator[None]:
    """Say what the disk said: torch's writer says something about positions in a file instead."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
