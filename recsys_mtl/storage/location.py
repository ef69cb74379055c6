"""A place of files, on a disk or in an object store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa
from pyarrow import fs

from recsys_mtl.config import ConfigError
from recsys_mtl.storage.stores import is_address, open_store, refusals

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


@dataclass(frozen=True)
class Location:
    """A file or a directory, there or not yet.

    What a store or a disk refuses is a `ConfigError` that names the place, but where a file is read bit by bit.
    """

    filesystem: fs.FileSystem = field(compare=False, repr=False)
    path: str
    """In the file system."""
    address: str
    """As the user gave it."""

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> "Location":
        folder, mark, options = self.address.partition("?") if is_address(self.address) else (self.address, "", "")
        join = str(Path(folder) / name) if not is_address(folder) else f"{folder.rstrip('/')}/{name}"
        path = str(Path(self.path) / name) if self.is_local else f"{self.path}/{name}"
        return Location(self.filesystem, path, join + mark + options)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def local(self) -> Path:
        """The path of a local place."""
        assert self.is_local
        return Path(self.path)

    def exists(self) -> bool:
        """Tell whether there is a file or a directory; a directory of an object store is there with its first file."""
        with refusals(self):
            return self._kind() != fs.FileType.NotFound

    def is_directory(self) -> bool:
        """Tell whether there is a directory."""
        with refusals(self):
            return self._kind() == fs.FileType.Directory

    def children(self, pattern: str = "*") -> list["Location"]:
        """List the files and directories in it whose names match, in the order of names; none if it is not there."""
        with refusals(self):
            infos = self.filesystem.get_file_info(fs.FileSelector(self.path or ".", allow_not_found=True))
        names = sorted(info.base_name for info in infos)
        return [self / name for name in names if fnmatchcase(name, pattern)]

    @contextmanager
    def open(self) -> Iterator[pa.NativeFile]:
        """Open a file for reading at any place of it; a local one is mapped into memory.

        Raises:
            OSError: what the store or the disk refuses, now or when it is read.
        """
        with pa.memory_map(self.path) if self.is_local else self.filesystem.open_input_file(self.path) as file:
            yield file

    def read_bytes(self) -> bytes:
        """Read a file."""
        with refusals(self):
            if self.is_local:
                return self.local.read_bytes()
            return self._read_remote()

    def read_text(self) -> str:
        """Read a text in UTF-8."""
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        """Write a file as a whole or not at all; directories on the way are made."""
        with refusals(self):
            if self.is_local:
                _write_whole(self.local, content)
            else:
                with self.filesystem.open_output_stream(self.path) as file:
                    file.write(content)

    def write_text(self, text: str) -> None:
        """Write a text in UTF-8 as a whole or not at all."""
        self.write_bytes(text.encode())

    def remove(self) -> None:
        """Remove a file, or a directory with all that is in it; nothing if there is none.

        In an object store an empty object may stay for the directory above.
        """
        with refusals(self):
            kind = self._kind()
            if kind == fs.FileType.Directory:
                self.filesystem.delete_dir(self.path)
            elif kind != fs.FileType.NotFound:
                self.filesystem.delete_file(self.path)

    def upload(self, file: Path) -> None:
        """Copy a local file here."""
        with refusals(self):
            fs.copy_files(str(file), self.path, fs.LocalFileSystem(), self.filesystem)

    def download(self, directory: Path) -> None:
        """Copy everything that is in it into a new local directory."""
        with refusals(self):
            directory.mkdir(parents=True)
            fs.copy_files(self.path, str(directory), self.filesystem, fs.LocalFileSystem())

    def fsspec(self) -> "AbstractFileSystem":
        """Return the file system as fsspec knows them; paths in it are those of `path`."""
        from fsspec.implementations.arrow import ArrowFSWrapper

        return ArrowFSWrapper(self.filesystem)

    def _kind(self) -> fs.FileType:
        return self.filesystem.get_file_info(self.path).type

    def _read_remote(self) -> bytes:
        try:
            with self.filesystem.open_input_stream(self.path, compression=None) as file:
                return file.read()
        except FileNotFoundError:
            bucket = self.path.partition("/")[0]
            if self.filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
                raise ConfigError([f"{self}: there is no {bucket!r}"]) from None
            raise


Place = str | Path | Location
"""Whatever names a place of files."""


def locate(place: Place) -> Location:
    """Find a path, or an address such as ``s3://BUCKET/PREFIX``; nothing needs to be there yet.

    Raises:
        ConfigError: no store has such addresses.
    """
    if isinstance(place, Location):
        return place
    address = str(place)
    if isinstance(place, Path) or not is_address(address):
        return Location(fs.LocalFileSystem(), address, address)
    store, path = open_store(address)
    return Location(store, path, address)


def absolute(place: str | Path) -> str:
    """Name a place for processes that work in other directories, as workers do; addresses stay as they are."""
    return str(place) if is_address(str(place)) else str(Path(place).absolute())


def _write_whole(path: Path, content: bytes) -> None:
    """Write beside the file and put it in place when it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex[:12]}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # else a power cut may take the new name with it
    finally:
        os.close(directory)
