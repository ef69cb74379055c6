"""Numbers by key that many are added to at once: in memory, or in a file of each worker that all workers read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.shared import Shared

LONGEST_KEY = 128
KEY = ("key", f"S{LONGEST_KEY}")
"""First field of every row."""

Rows = npt.NDArray[Any]


class RowTable:
    """Up to ``most`` rows, found by their key. It is not locked: one thread at a time."""

    def __init__(self, name: str, dtype: np.dtype[Any], most: int, shared: Shared | None) -> None:
        self.name, self.dtype, self.most, self.shared = name, dtype, most, shared
        self.rows = np.zeros(most, dtype) if shared is None else self._mapped(shared.file(name))
        keys: list[bytes] = self.rows["key"].tolist()
        self.places = {key: place for place, key in enumerate(keys) if key}

    def place(self, key: bytes) -> int | None:
        """Return the row of a key, a new one if need be; none where there is no room for it."""
        place = self.places.get(key)
        if place is None and len(self.places) < self.most and len(key) <= LONGEST_KEY:
            place = self.places[key] = len(self.places)
            self.rows["key"][place] = key
        return place

    def used(self) -> Iterator[Rows]:
        """Yield the rows in use of every process."""
        if self.shared is None:
            yield self.rows[self.rows["key"] != b""].copy()
            return
        for path in self.shared.files(self.name):
            rows = np.fromfile(path, self.dtype)
            yield rows[rows["key"] != b""]

    def _mapped(self, path: Path) -> Rows:
        """Open the worker's file; one that takes the place of a dead worker goes on counting from there."""
        with path.open("ab") as file:
            file.truncate(self.most * self.dtype.itemsize)
        return np.memmap(path, self.dtype, "r+")
