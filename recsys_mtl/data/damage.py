"""Damaged shards: what cannot be read keeps its place in the order of rows, so that all others keep theirs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsys_mtl.config import ConfigError
from recsys_mtl.data.shard_writer import ROW_GROUP_ROWS, SHARD_ROW_GROUPS, shard_name
from recsys_mtl.storage import Place, locate


class DamagedError(ConfigError):
    """Rows that cannot be read, with the file and the row group that they are in."""


@dataclass(frozen=True)
class Gap:
    """Rows that could not be read, in the place of their table."""

    num_rows: int

    def slice(self, offset: int, length: int | None = None) -> "Gap":
        """Take a part, as of a table."""
        left = max(self.num_rows - offset, 0)
        return Gap(left if length is None else min(left, length))


def written_layout(data: Place, split: str, readable: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Return the rows of each row group of the training split's files: of those that cannot be read, too.

    The shard writer cuts a training split in one way only: its number of rows, which ``stats.json`` keeps, tells the
    rest. ``readable`` holds what the files say that can be read: it has to agree.

    Raises:
        ConfigError: it does not, or there are no usable statistics.
    """
    rows = _rows(data, split)
    if sum(map(sum, readable.values())) == rows:  # nothing is missing, however it is cut
        return {name: list(sizes) for name, sizes in readable.items()}
    groups = [min(ROW_GROUP_ROWS, rows - start) for start in range(0, rows, ROW_GROUP_ROWS)]
    starts = range(0, len(groups), SHARD_ROW_GROUPS)
    layout = {shard_name(number): groups[start : start + SHARD_ROW_GROUPS] for number, start in enumerate(starts)}
    if foreign := sorted(name for name, sizes in readable.items() if layout.get(name) != list(sizes)):
        problem = "is not cut as stats.json tells, so that nobody knows how many rows the unreadable files have"
        raise ConfigError([f"{locate(data) / split / foreign[0]}: {problem}; prepare the data set again"])
    return layout


def _rows(data: Place, split: str) -> int:
    path = locate(data) / "stats.json"
    try:
        return int(json.loads(path.read_text())["splits"][split]["rows"])
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        problem = f"does not tell how many rows the split {split!r} has ({error})"
        raise ConfigError(
            [f"{path}: {problem}, and not all its files can be read; prepare the data set again"]
        ) from None
