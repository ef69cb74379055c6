"""What would make tables fit that do not: computed, not guessed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from recsys_mtl.training.sharding_rules import Choice, Site, TableFacts, workers_at_least

GIB = 2**30
STRETCH = (1.0, 1.1, 1.25, 1.5, 2.0)
"""Of the least that the sizes ask for: whole tables leave gaps."""
NAMED = 3
"""Tables that a message explains, the largest ones."""


def what_would_help(
    tables: list[TableFacts], choices: Mapping[str, Choice], site: Site, fits: Callable[[Site], bool]
) -> str:
    """Name changes that would make the tables fit, each of them tried with ``fits``."""
    stuck = [table for table in tables if site.size(table) > site.budget and not _can_split(table, choices, site)]
    stuck.sort(key=lambda table: -site.size(table))
    found = [_way_out(table, choices[table.name], site) for table in stuck[:NAMED]]
    if not stuck and (workers := _enough_workers(tables, site, fits)) is not None:
        found.append(f"cluster.workers={workers} would do")
    if (memory := _enough_memory(tables, stuck, site, fits)) is not None:
        found.append(f"cluster.memory_gib={memory:.3g} would do")
    return "; ".join([*found, "fewer buckets or smaller widths would help"])


def _can_split(table: TableFacts, choices: Mapping[str, Choice], site: Site) -> bool:
    choice = choices[table.name]
    return site.split(table) is not None if choice == "auto" else choice not in {"table_wise", "data_parallel"}


def _way_out(table: TableFacts, choice: Choice, site: Site) -> str:
    """Say why a table that is too large for any worker stays on one, and what would split it."""
    stays = f"{table.name} stays on one worker with {site.size(table) / GIB:.3g} GiB"
    if choice != "auto":
        return f"{stays}: cluster.sharding.tables.{table.name}=auto would split it"
    exact = replace(site, sparse=site.sparse.model_copy(update={"kind": "adagrad"}))
    if (way := exact.split(table)) is not None:
        return f"{stays}: optim.sparse.kind=adagrad would let it be split ({way})"
    return f"{stays}: a width of {table.dim} cannot be split on {site.device}"


def _enough_workers(tables: list[TableFacts], site: Site, fits: Callable[[Site], bool]) -> int | None:
    for stretch in STRETCH:
        workers = math.ceil(workers_at_least(tables, site) * stretch / site.step) * site.step
        if fits(replace(site, workers=workers, node=site.step if site.step > 1 else workers)):
            return workers
    return None


def _enough_memory(
    tables: list[TableFacts], stuck: list[TableFacts], site: Site, fits: Callable[[Site], bool]
) -> float | None:
    sizes = [site.size(table) for table in stuck]
    least = max([sum(site.size(table) for table in tables) / site.workers, *sizes])
    for stretch in STRETCH:
        budget = least * stretch * 1.01  # the printed digits must not round it down
        if fits(replace(site, budget=budget)):
            return budget / GIB / site.usable
    return None
