"""Sharding rules: in which ways a table can be spread over workers, and which of them it gets."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveInt
from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.types import ModuleSharder

from recsys_mtl.config import Config, ConfigError
from recsys_mtl.training.optim import SparseConfig

Sharding = Literal[
    "data_parallel", "table_wise", "column_wise", "table_column_wise", "row_wise", "table_row_wise", "grid_shard"
]
Choice = Literal[
    "auto",
    "data_parallel",
    "table_wise",
    "column_wise",
    "table_column_wise",
    "row_wise",
    "table_row_wise",
    "grid_shard",
]
Kind = Literal["pooled", "events"]
"""``events`` are tables that some sequence reads: one vector per id. All others give one per row and feature."""

SHARDERS: Mapping[Kind, ModuleSharder[nn.Module]] = {
    "pooled": EmbeddingBagCollectionSharder(),
    "events": EmbeddingCollectionSharder(),
}
CRASHES = {("cpu", "events", "data_parallel")}
"""What torchrec offers and cannot do (torchrec#1255)."""
BY_COLUMN = {"column_wise", "table_column_wise", "grid_shard"}
COLUMN_STEP = 4
"""Widths of parts are multiples of this: the kernels read so many numbers at a time."""


class ShardingConfig(Config):
    """How tables are spread over the workers. Results do not depend on it, up to the order of floating-point sums."""

    default: Choice = "auto"
    """For tables that are not named below. ``auto``: a table is on one worker as a whole, and the largest are split,
    one after another, until everything fits."""
    tables: dict[str, Choice] = {}
    """For single tables: ``{user_id: column_wise}``."""
    workers_per_node: PositiveInt | None = None
    """Workers that share a machine, for GPUs on several machines: ``table_row_wise`` keeps a table on one of them. All
    workers where it is not given."""


@dataclass(frozen=True)
class TableFacts:
    """A table of a model."""

    name: str
    kind: Kind
    rows: int
    dim: int


@dataclass(frozen=True)
class Site:
    """Where tables are spread, and what updates them."""

    workers: int
    device: str
    """``cpu`` or ``cuda``."""
    node: int
    """Workers of a machine; ``workers`` where there is only one."""
    step: int
    """Workers that are added at a time: whole machines where somebody said what those are."""
    budget: float
    """Bytes that a worker has for tables."""
    usable: float
    """Share of a worker's memory that these are."""
    sparse: SparseConfig

    def size(self, table: TableFacts) -> int:
        """Count the bytes of a table with its optimiser's numbers."""
        return 4 * table.rows * table.dim + 4 * moments(self.sparse, table.rows, table.dim)

    def possible(self, table: TableFacts) -> list[str]:
        """List what torchrec can do with a table on this device."""
        offered = SHARDERS[table.kind].sharding_types(self.device)
        return [sharding for sharding in offered if (self.device, table.kind, sharding) not in CRASHES]

    def parts(self, table: TableFacts, sharding: str) -> int:
        """Count the equal parts into which a table's columns are cut."""
        if sharding not in BY_COLUMN:
            return 1
        most = {"column_wise": self.workers, "table_column_wise": self.node}.get(sharding, self.workers // self.node)
        return max(n for n in range(1, most + 1) if n == 1 or table.dim % (n * COLUMN_STEP) == 0)

    def objection(self, table: TableFacts, sharding: str) -> str | None:
        """Say why a table cannot be spread in a way; nothing if it can."""
        possible = self.possible(table)
        if sharding not in possible:
            reads = "tables that a sequence reads" if table.kind == "events" else "tables that no sequence reads"
            return f"{sharding} is not possible on {self.device} for {reads}; possible are {', '.join(possible)}"
        if sharding not in BY_COLUMN:
            return None
        if self.sparse.kind == "rowwise_adagrad":
            return (
                f"{sharding} does not go with optim.sparse.kind=rowwise_adagrad, whose one number per row would become "
                "one per row and part: results would depend on the number of workers. Use adagrad or sgd"
            )
        if self.workers > 1 and table.dim % (2 * COLUMN_STEP):
            return f"{sharding} needs a width that is a multiple of {2 * COLUMN_STEP}; it is {table.dim}"
        return None

    def split(self, table: TableFacts) -> str | None:
        """Say how ``auto`` splits a table that is too large for one worker; nothing if it cannot."""
        ways = ["row_wise", "column_wise"]
        if self.workers > self.node and self.size(table) / self.node <= self.budget:
            ways.insert(0, "table_row_wise")  # sums stay on one machine; row-wise ones cross the network
        return next((way for way in ways if self.objection(table, way) is None), None)


def moments(sparse: SparseConfig, rows: int, dim: int) -> int:
    """Count the numbers that the tables' optimiser keeps for so many rows of a width."""
    return {"rowwise_adagrad": rows, "adagrad": rows * dim, "sgd": 0}[sparse.kind]


def settled(tables: list[TableFacts], config: ShardingConfig, site: Site) -> dict[str, Choice]:
    """Return what the configuration says about each table.

    Raises:
        ConfigError: a table that does not exist, or a way that is not possible; all of them at once.
    """
    names = [table.name for table in tables]
    here = "cluster.sharding"
    problems = [
        f"{here}.tables.{name}: no such table; there are {', '.join(names)}"
        for name in config.tables
        if name not in names
    ]
    if site.workers % site.node:
        problems.append(f"{here}.workers_per_node: {site.workers} workers do not fill nodes of {site.node}")
    refused: dict[str, list[str]] = {}
    for table in tables:
        choice = config.tables.get(table.name, config.default)
        if choice == "auto" or (problem := site.objection(table, choice)) is None:
            continue
        if table.name in config.tables:
            problems.append(f"{here}.tables.{table.name}: {problem}")
        else:
            refused.setdefault(problem, []).append(table.name)
    problems += [f"{here}.default: {problem} (tables {', '.join(which)})" for problem, which in refused.items()]
    if problems:
        raise ConfigError(problems)
    return {name: config.tables.get(name, config.default) for name in names}


def attempts(tables: list[TableFacts], choices: Mapping[str, Choice], site: Site) -> Iterator[dict[str, str]]:
    """Yield what ``auto`` tries until the tables fit: every table whole, then more and more of the largest split.

    On CPU no table is replicated by itself: where that was measured it was not faster (docs/training.md).
    """
    free = {table.name: table for table in tables if choices[table.name] == "auto"}
    whole = {name: "table_wise" if choice == "auto" else str(choice) for name, choice in choices.items()}
    ways = {name: way for name, table in free.items() if (way := site.split(table)) is not None}
    largest = sorted(ways, key=lambda name: (-site.size(free[name]), name))
    must = sum(site.size(free[name]) > site.budget for name in largest)
    counts = {must, len(largest)} | {2**k for k in range(len(largest).bit_length())}
    for count in sorted(count for count in counts if must <= count <= len(largest)):
        yield whole | {name: ways[name] for name in largest[:count]}
    if "table_row_wise" in ways.values():  # a node can be too full for its tables while the cluster has room
        yield whole | dict.fromkeys(largest, "row_wise")


def workers_at_least(tables: list[TableFacts], site: Site) -> int:
    """Return the number of workers below which the tables cannot fit."""
    return max(site.workers + 1, math.ceil(sum(site.size(table) for table in tables) / site.budget))
