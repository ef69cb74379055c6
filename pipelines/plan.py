"""The plan of a run: which worker holds which table, and what that takes, before any worker starts."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pipelines.run import TrainRun
from pipelines.worker import WorkerProgram
from recsys_mtl.data.reader import Worker
from recsys_mtl.training.footprint import TablePart, dense_bytes, table_parts
from recsys_mtl.training.sharding import make_plan

SHOWN = 20
"""Tables that are printed, the largest ones; the JSON file has all."""


def run(config: TrainRun, console: Console, *, json_file: Path | None = None) -> dict[str, Any]:
    """Print the plan, and write it if asked.

    Raises:
        ConfigError: data, tasks or model do not fit together, or the tables do not fit into the workers' memory.
    """
    facts = plan(config)
    parts = [TablePart(**part) for part in facts["tables"]]
    console.print(tables_table(parts))
    console.print(workers_table(facts["workers"]))
    console.print(summary(facts), highlight=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return facts


def plan(config: TrainRun) -> dict[str, Any]:
    """Work the plan out in this process: for the fewest workers of an elastic run, when each holds the most."""
    cluster, world = config.cluster, config.cluster.min_workers
    program = WorkerProgram(config, Worker(0, cluster.max_workers), torch.device("cpu"))
    model = config.model.build(program.spec, program.tasks, table_device=torch.device("meta"))
    device = torch.device("cuda" if cluster.gpus_per_worker else "cpu")
    parts = table_parts(make_plan(model, world, device, memory_gib=cluster.memory_gib), config.optim.sparse)
    dense = dense_bytes(model)
    batch, rows = config.trainer.batch_size, program.reader.rows
    workers = [share(worker, [part for part in parts if part.worker == worker], dense) for worker in range(world)]
    return {
        "tables": [asdict(part) for part in parts],
        "workers": workers,
        "rows_per_step": batch,
        "rows_per_worker_and_step": batch / world,
        "train_rows": rows,
        "steps": config.trainer.total_steps(program.reader.steps),
    }


def share(worker: int, parts: list[TablePart], dense: int) -> dict[str, int]:
    """Sum up what a worker holds, in bytes."""
    weights, moments = sum(part.weight_bytes for part in parts), sum(part.moment_bytes for part in parts)
    total = weights + moments + dense
    return {"worker": worker, "tables": len(parts), "weights": weights, "moments": moments, "dense": dense} | {
        "total": total
    }


def tables_table(parts: list[TablePart]) -> Table:
    """Lay the tables out, the largest first."""
    left = len(parts) - SHOWN
    table = Table(title="Tables", caption=f"and {left} smaller ones" if left > 0 else None)
    for name in ("table", "sharding", "worker", "rows", "width", "weights", "moments"):
        table.add_column(name, justify="left" if name in {"table", "sharding"} else "right")
    for part in parts[:SHOWN]:
        sizes = (mib(part.weight_bytes), mib(part.moment_bytes))
        table.add_row(part.table, part.sharding, str(part.worker), f"{part.rows:,}", str(part.dim), *sizes)
    return table


def workers_table(workers: list[dict[str, int]]) -> Table:
    """Lay out what each worker holds."""
    table = Table(title="Workers, without activations and data")
    for name in ("worker", "tables", "weights of tables", "their moments", "dense part", "total"):
        table.add_column(name, justify="right")
    for share in workers:
        sizes = (mib(share[name]) for name in ("weights", "moments", "dense", "total"))
        table.add_row(str(share["worker"]), str(share["tables"]), *sizes)
    return table


def summary(facts: dict[str, Any]) -> str:
    """Say how the work is divided."""
    weights = [share["weights"] for share in facts["workers"]]
    mean = sum(weights) / len(weights)
    uneven = f", the fullest worker holds {max(weights) / mean:.2f} times the mean" if mean else ""
    return (
        f"{facts['train_rows']:,} training rows, {facts['steps']:,} steps of {facts['rows_per_step']:,} rows, "
        f"{facts['rows_per_worker_and_step']:,.0f} of them for each worker{uneven}"
    )


def mib(size: int) -> str:
    """Print bytes."""
    return f"{size / 2**20:,.2f} MiB"
