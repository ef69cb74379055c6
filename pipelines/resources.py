"""Room for workers: what each of them takes of a Ray cluster, and whether the cluster has it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray.train.v2.api.config import ScalingConfig

from pipelines.run import ClusterConfig, Elastic
from recsys_mtl.config import ConfigError

GIB = 2**30
TINY = 1e-9
"""Ray's amounts are decimal fractions, ours are not."""


def scaling(config: ClusterConfig) -> ScalingConfig:
    """Say it all in Ray Train's words."""
    said = ScalingConfig(
        num_workers=config.max_workers,
        use_gpu=config.gpus_per_worker > 0,
        resources_per_worker=per_worker(config),
        placement_strategy=config.placement.upper(),
    )
    if not isinstance(workers := config.workers, Elastic):
        return said
    return replace(
        said, num_workers=(workers.min, workers.max), elastic_resize_monitor_interval_s=workers.resize_every_s
    )


def per_worker(config: ClusterConfig) -> dict[str, float]:
    """Return what one worker takes of a node. Memory only on CPU: of a GPU's, Ray knows nothing."""
    taken: dict[str, float] = {"CPU": config.cpus_per_worker, **config.resources}
    if config.gpus_per_worker:
        taken["GPU"] = config.gpus_per_worker
    elif config.memory_gib is not None:
        taken["memory"] = int(config.memory_gib * GIB)
    return taken


def require_room(config: ClusterConfig, tell: Callable[[str], None]) -> None:
    """Look whether the nodes could hold the workers if they were idle, before anything is started on them.

    The cluster of this process never gets more nodes. Others may: there, say what is missing, and go on to wait.

    Raises:
        ConfigError: they could not, and never will.
    """
    if room(config) >= config.min_workers:
        return
    if config.address == "local":
        raise ConfigError([no_room(config)])
    tell(f"{no_room(config)}. Waiting up to {config.start_timeout_s} s for it (cluster.start_timeout_s)")


def room(config: ClusterConfig) -> int:
    """Count the workers that the live nodes could hold if they were idle."""
    need = per_worker(config)
    return sum(fits(node["Resources"], need) for node in alive())


def alive() -> list[dict[str, Any]]:
    """List the nodes that live."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def fits(node: Mapping[str, float], need: Mapping[str, float]) -> int:
    """Count the workers that a node could hold."""
    return int(min(node.get(name, 0) / amount + TINY for name, amount in need.items()))


def no_room(config: ClusterConfig) -> str:
    """Say what is asked for, and what there is."""
    need, possible = per_worker(config), room(config)
    nodes = alive()
    there = {name: sum(node["Resources"].get(name, 0) for node in nodes) for name in need}
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    stock = [f"{amount(name, there[name])} ({amount(name, free.get(name, 0))} free)" for name in need]
    asked = ", ".join(amount(name, value) for name, value in need.items())
    helps = "Fewer workers, less for each of them (cluster.cpus_per_worker, cluster.resources, …) or more nodes"
    return (
        f"cluster.workers: no room for {config.min_workers} with {asked} each. The cluster has in all "
        f"{', '.join(stock)} on {len(nodes)} {'nodes' if len(nodes) > 1 else 'node'}, idle enough for {possible}. "
        f"{helps} would help"
    )


def amount(name: str, value: float) -> str:
    """Print an amount of a resource."""
    return f"{value / GIB:.3g} GiB memory" if name == "memory" else f"{value:g} {name}"
