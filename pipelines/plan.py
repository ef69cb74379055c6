"""The plan of a run: which worker holds which table, and what that takes, before any worker starts."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveFloat
from rich.console import Console

from pipelines.plan_source import PlanSource
from pipelines.plan_tables import summary, tables_table, workers_table
from pipelines.run import TrainRun
from recsys_mtl.config import Config
from recsys_mtl.training.footprint import TablePart, dense_bytes, gradient_bytes, table_parts
from recsys_mtl.training.planning import make_plan, table_facts
from recsys_mtl.training.traffic import Exchange, all_reduced, exchange, sent, slowest

GB = 1e9


class Links(Config):
    """What workers send each other over: assumptions, of one worker and one direction."""

    node_gb_per_s: PositiveFloat = 450.0
    """Within a machine: NVLink of an H100."""
    network_gb_per_s: PositiveFloat = 50.0
    """Between machines: 400 Gbit/s for each GPU."""


@dataclass(frozen=True)
class Workers:
    """How many there are, how many share a machine, and the rows that each has of a step."""

    number: int
    node: int
    rows: float


def run(
    config: TrainRun, console: Console, *, json_file: Path | None = None, links: Links | None = None
) -> dict[str, Any]:
    """Print the plan, and write it if asked.

    Raises:
        ConfigError: data, tasks or model do not fit together, a table cannot be spread as the configuration says, or
            the tables do not fit into the workers' memory.
    """
    facts = plan(config, links or Links())
    console.print(tables_table(facts["spread"]))
    console.print(workers_table(facts["workers"]))
    console.print(summary(facts), highlight=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return facts


def plan(config: TrainRun, links: Links) -> dict[str, Any]:
    """Work the plan out in this process: for the fewest workers of an elastic run, when each holds the most."""
    cluster, world = config.cluster, config.cluster.min_workers
    source = PlanSource.of(config, cluster.max_workers)
    model = config.model.build(source.spec, source.tasks, table_device=torch.device("meta"))
    device = torch.device("cuda" if cluster.gpus_per_worker else "cpu")
    sparse, sharding = config.optim.sparse, cluster.sharding
    tables, started = table_facts(model), time.perf_counter()
    made = make_plan(model, world, device, sparse, sharding=sharding, memory_gib=cluster.memory_gib)
    seconds = time.perf_counter() - started
    parts, batch = table_parts(made, tables, sparse), config.trainer.batch_size
    workers = Workers(world, min(sharding.workers_per_node or world, world), batch / world)
    traffic = exchange(parts, source.lookups, rows=workers.rows, workers=world, node=workers.node)
    dense, gradient = dense_bytes(model), gradient_bytes(model) + replicated_bytes(parts)
    return {
        "tables": [asdict(part) for part in parts],
        "spread": [spread(table.name, parts, source, workers) for table in by_size(parts, tables)],
        "workers": [
            share(worker, parts, dense) | asdict(sent(traffic, worker, workers.node)) for worker in range(world)
        ],
        "all_reduced_per_worker": all_reduced(gradient, world),
        "milliseconds": times(traffic, gradient, workers, links) if device.type == "cuda" else {},
        "links": links.model_dump(),
        "rows_per_step": batch,
        "rows_per_worker_and_step": workers.rows,
        "train_rows": source.rows,
        "steps": source.steps,
        "plan_seconds": seconds,
    }


def by_size(parts: list[TablePart], tables: list[Any]) -> list[Any]:
    """Order tables by the bytes of all their parts, the largest first."""
    sizes = {table.name: 0 for table in tables}
    for part in parts:
        sizes[part.table] += part.weight_bytes
    return sorted(tables, key=lambda table: (-sizes[table.name], table.name))


def spread(table: str, parts: list[TablePart], source: PlanSource, workers: Workers) -> dict[str, Any]:
    """Say how one table is spread, and what it makes all workers send in a step."""
    mine = [part for part in parts if part.table == table]
    traffic = exchange(mine, source.lookups, rows=workers.rows, workers=workers.number, node=workers.node)
    return {
        "table": table,
        "kind": mine[0].kind,
        "rows": source.spec.rows[table],
        "dim": model_dim(mine),
        "sharding": mine[0].sharding,
        "workers": sorted({part.worker for part in mine}),
        "weights": sum(part.weight_bytes for part in mine),
        "moments": sum(part.moment_bytes for part in mine),
        "ids_per_row": sum(source.lookups[table]),
        "bytes_per_step": traffic.total + workers.number * all_reduced(replicated_bytes(mine), workers.number),
    }


def model_dim(parts: list[TablePart]) -> int:
    """Return the width of a table from its parts."""
    return max(part.first_column + part.dim for part in parts)


def replicated_bytes(parts: list[TablePart]) -> int:
    """Return the bytes of the gradients of replicated tables, on each worker."""
    return sum(part.weight_bytes for part in parts if part.sharding == "data_parallel" and part.worker == 0)


def share(worker: int, parts: list[TablePart], dense: int) -> dict[str, int]:
    """Sum up what a worker holds, in bytes."""
    mine = [part for part in parts if part.worker == worker]
    weights, moments = sum(part.weight_bytes for part in mine), sum(part.moment_bytes for part in mine)
    tables, total = len({part.table for part in mine}), weights + moments + dense
    held = {"worker": worker, "tables": tables, "weights": weights, "moments": moments, "dense": dense}
    return held | {"total": total}


def times(traffic: Exchange, gradient: float, workers: Workers, links: Links) -> dict[str, float]:
    """Return what a step's exchanges take at the least, in milliseconds, if the links are as fast as assumed."""
    rates = {"node_rate": links.node_gb_per_s * GB, "network_rate": links.network_gb_per_s * GB}
    # The ring of an all-reduce enters and leaves a machine over all its workers' links at once.
    across = rates["network_rate"] * workers.node if workers.node < workers.number else rates["node_rate"]
    seconds = {
        "ids": slowest(traffic.ids_WW, workers.node, **rates),
        "vectors": slowest(traffic.vectors_WW, workers.node, **rates),
        "gradients": slowest(traffic.vectors_WW.T, workers.node, **rates),
        "all_reduce": all_reduced(gradient, workers.number) / across,
    }
    return {name: 1e3 * value for name, value in seconds.items()}
