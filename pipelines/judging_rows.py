"""The rows that a version is judged by: splits of one data set or of several that have grown from each other."""

from dataclasses import dataclass
from functools import cached_property

from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.growth import growth_differences
from recsys_mtl.data.shards import RowGroup, row_groups
from recsys_mtl.storage import Place


@dataclass(frozen=True)
class Rows:
    """What is judged on: splits of data sets, the newest last. Its encoding has grown from all others'."""

    parts: tuple[tuple[Place, str], ...]

    @property
    def newest(self) -> Place:
        """The data set whose encoding all are read with."""
        return self.parts[-1][0]

    def require_growth(self) -> None:
        """Make sure that all parts can be read with the newest encoding.

        Raises:
            ConfigError: one is not what it has grown from.
        """
        newest = Encoder.load(self.newest)
        for data, _ in self.parts[:-1]:
            if difference := next(growth_differences(Encoder.load(data), newest), None):
                raise ConfigError([f"{self.newest}: does not continue {data}: {difference}"])

    @cached_property
    def groups(self) -> list[RowGroup]:
        """All row groups."""
        return [group for data, split in self.parts for group in row_groups(data, split)]

    @property
    def names(self) -> list[str]:
        """Each split, for people."""
        return [f"{data}/{split}" for data, split in self.parts]
