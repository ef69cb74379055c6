"""How long a run's points take until the server has them."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tracking.servers import mlflow_server, postgres
from recsys_mtl.tracking import MetricLog, Run, TrackingConfig

TARGET_S = 5.0


@dataclass(frozen=True)
class Timing:
    """One run's points on one kind of store."""

    store: str
    points: int
    logging_s: float
    """What training waited."""
    total_s: float
    """Until the server had the last one."""
    load: float
    """Processes that wanted to run, on average over the last minute."""

    @property
    def line(self) -> str:
        """Say it in a row of a table."""
        met = "yes" if self.total_s < TARGET_S else "no"
        numbers = f"{self.points:,} | {self.logging_s:.2f} | {self.total_s:.2f} | {met} | {self.load:.1f}"
        return f"| {self.store} | {numbers} |"


HEADER = f"""\
| store | points | training waits, s | server has all, s | under {TARGET_S:.0f} s | load average |
|---|---:|---:|---:|---|---:|"""


def measure(metrics: int, steps: int, repeats: int) -> Iterator[Timing]:
    """Log so many metrics at so many steps, to every kind of store, several times in turn."""
    with tempfile.TemporaryDirectory() as directory:
        for store, uri in _stores(Path(directory)):
            for repeat in range(repeats):
                config = TrackingConfig(uri=uri, experiment=store, buffer=f"{directory}/unsent")
                yield _timed(config, store, repeat, metrics, steps)


def _stores(home: Path) -> Iterator[tuple[str, str]]:
    for name in ("file", "server", "postgres"):
        (home / name).mkdir()
    yield "SQLite file", f"sqlite:///{home}/file/mlflow.db"
    with mlflow_server(home / "server", f"sqlite:///{home}/server/mlflow.db") as address:
        yield "MLflow server on SQLite", address
    with postgres() as database, mlflow_server(home / "postgres", database) as address:
        yield "MLflow server on PostgreSQL", address


def _timed(config: TrackingConfig, store: str, repeat: int, metrics: int, steps: int) -> Timing:
    keys = [f"valid/task_{number % 10}/metric_{number // 10}" for number in range(metrics)]
    with Run.start(config, f"points-{repeat}", params={}, tags={}) as run:
        start = time.perf_counter()
        log = MetricLog(config, run.run_id)
        for step in range(steps):
            log.log(step, dict.fromkeys(keys, step * 0.5))
        logged = time.perf_counter()
        log.deliver()
        end = time.perf_counter()
        _require_all(run, (keys[0], keys[-1]), steps)
    return Timing(store, metrics * steps, logged - start, end - start, os.getloadavg()[0])


def _require_all(run: Run, keys: Sequence[str], steps: int) -> None:
    for key in keys:
        found = [point.step for point in run.client.get_metric_history(run.run_id, key)]
        if found != list(range(steps)):
            raise RuntimeError(f"{key}: {len(found)} of {steps} points arrived")
