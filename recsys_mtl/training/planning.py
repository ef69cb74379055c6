"""Planning: which worker holds which part of which table, decided before any worker starts."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import nn
from torch.distributed.optim.apply_optimizer_in_backward import (
    _apply_optimizer_in_backward as apply_optimizer_in_backward,
)
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError, PlannerErrorType
from torchrec.distributed.types import ModuleSharder, ShardingPlan

from recsys_mtl.config import ConfigError
from recsys_mtl.training.optim import SparseConfig
from recsys_mtl.training.remedies import what_would_help
from recsys_mtl.training.sharding_rules import SHARDERS, Choice, ShardingConfig, Site, TableFacts, attempts, settled

OUT_OF_MEMORY = {
    PlannerErrorType.INSUFFICIENT_STORAGE,
    PlannerErrorType.PARTITION,
    PlannerErrorType.STRICT_CONSTRAINTS,
}
"""Reasons of torchrec's planner: in all; of some table on any worker; in all there is room, but not for these parts."""
GIB = 2**30
DEFAULT_GIB = {"cpu": 128.0, "cuda": 32.0}
"""Memory that a worker is taken to have for tables where nobody said it."""
RESERVED = 0.1
"""Share of a GPU's memory that is left to everything but tables and their buffers."""


def sharders() -> list[ModuleSharder[nn.Module]]:
    """Everything of a model that can be sharded."""
    return list(SHARDERS.values())


def make_plan(
    model: nn.Module,
    world: int,
    device: torch.device,
    sparse: SparseConfig,
    *,
    sharding: ShardingConfig | None = None,
    memory_gib: float | None = None,
) -> ShardingPlan:
    """Decide which worker holds which part of which table.

    Every worker computes the plan for itself: it depends on nothing that differs between them, and a plan that cannot
    be made is then an error on all of them instead of a hang (torchrec's collective plan raises on one).

    Raises:
        ConfigError: a table cannot be spread as the configuration says, or the tables do not fit into the memory of
            the workers.
    """
    _announce(model, sparse)
    sharding = sharding or ShardingConfig()
    site = make_site(world, device, sparse, sharding, memory_gib)
    choices = settled(table_facts(model), sharding, site)
    if (plan := _try(model, site, choices)) is not None:
        return plan
    raise ConfigError([_does_not_fit(model, site, choices, memory_gib)])


def _announce(model: nn.Module, sparse: SparseConfig) -> None:
    """Tell the tables' optimiser to those who plan and shard: the one counts its numbers, the other fuses it."""
    optimizer, arguments = sparse.optimizer
    tables = (weight for name, weight in model.named_parameters() if is_table(name))
    fresh = [weight for weight in tables if not hasattr(weight, "_optimizer_classes")]
    apply_optimizer_in_backward(optimizer, fresh, arguments)


def make_site(
    world: int, device: torch.device, sparse: SparseConfig, sharding: ShardingConfig, memory_gib: float | None
) -> Site:
    """Describe the workers to the rules."""
    usable = 1 - RESERVED if device.type == "cuda" else 1
    budget = GIB * usable * (memory_gib or DEFAULT_GIB[device.type])
    node = min(sharding.workers_per_node or world, world)
    return Site(world, device.type, node, sharding.workers_per_node or 1, budget, usable, sparse)


def _try(model: nn.Module, site: Site, choices: Mapping[str, Choice]) -> ShardingPlan | None:
    """Return the first plan that fits; nothing if none does."""
    tables = table_facts(model)
    for attempt in attempts(tables, choices, site):
        try:
            return _planner(tables, attempt, site).plan(model, sharders())
        except PlannerError as error:
            if error.error_type not in OUT_OF_MEMORY:
                raise
    return None


def _planner(tables: list[TableFacts], attempt: Mapping[str, str], site: Site) -> EmbeddingShardingPlanner:
    """Make a planner that has only to place parts. One way per table: of several, it tries them in a random order."""
    constraints = {}
    for table in tables:
        way = attempt[table.name]
        kernel = EmbeddingComputeKernel.DENSE if way == "data_parallel" else EmbeddingComputeKernel.FUSED
        constraints[table.name] = ParameterConstraints(
            sharding_types=[way],
            compute_kernels=[kernel.value],
            min_partition=table.dim // site.parts(table, way),
        )
    cap = {"hbm_cap" if site.device == "cuda" else "ddr_cap": int(site.budget)}
    return EmbeddingShardingPlanner(
        topology=Topology(world_size=site.workers, local_world_size=site.node, compute_device=site.device, **cap),
        constraints=constraints,
        storage_reservation=FixedPercentageStorageReservation(percentage=0.0),
    )


def _does_not_fit(model: nn.Module, site: Site, choices: Mapping[str, Choice], memory_gib: float | None) -> str:
    tables = table_facts(model)
    sizes = {table.name: site.size(table) / GIB for table in tables}
    largest = max(sizes, key=lambda name: sizes[name])
    limit = f"{memory_gib or DEFAULT_GIB[site.device]:g} GiB (cluster.memory_gib)"
    return (
        f"cluster.workers: {site.workers} workers with {limit} each cannot hold the tables, "
        f"{sum(sizes.values()):.3g} GiB with their optimiser's numbers; the largest, {largest}, has "
        f"{sizes[largest]:.3g} GiB. {what_would_help(tables, choices, site, partial(_fits, model, choices))}"
    )


def _fits(model: nn.Module, choices: Mapping[str, Choice], site: Site) -> bool:
    return _try(model, site, choices) is not None


def table_facts(model: nn.Module) -> list[TableFacts]:
    """Describe the tables of an unsharded model."""
    return [
        TableFacts(name.split(".")[-2], "pooled" if ".embedding_bags." in name else "events", *weight.shape)
        for name, weight in model.named_parameters()
        if is_table(name)
    ]


def is_table(name: str) -> bool:
    """Tell whether a weight of a model is a table, by its name."""
    return ".embedding_bags." in name or ".embeddings." in name
