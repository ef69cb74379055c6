"""The tensors of a training run: weights, buffers and what the optimisers remember, by name."""

from typing import Any

import torch
from torch import Tensor

from recsys_mtl.training.step import TrainStep


def training_state(step: TrainStep) -> dict[str, Any]:
    """Return what a checkpoint saves of a step, and what loading one fills in place.

    Sharded weights and moments are there in this worker's part, all others whole.
    """
    return {"model": step.model.state_dict(), "tables": _table_moments(step), "dense": _dense_moments(step)}


def put_back(step: TrainStep, state: dict[str, Any], steps: int) -> None:
    """Let a step go on from a loaded state, ``steps`` after the beginning of its run."""
    step.model.load_state_dict(state["model"])
    if (tables := _table_optimizer(step)) is not None:
        fused = {name: state["tables"][name] for name in tables.state_dict()["state"]}  # replicated ones are in place
        tables.load_state_dict(tables.state_dict() | {"state": fused})
    step.go_to(steps)


def _table_optimizer(step: TrainStep) -> Any:
    """Return the optimiser that is fused into the tables' backward pass; an unsharded model has none of this kind."""
    return getattr(step.model, "fused_optimizer", None)


def _table_moments(step: TrainStep) -> dict[str, Any]:
    optimizer = _table_optimizer(step)
    fused = {} if optimizer is None else dict(optimizer.state_dict()["state"])
    return fused | ({} if step.replicated is None else step.replicated.state())


def _dense_moments(step: TrainStep) -> dict[str, dict[str, Tensor]]:
    """Return Adam's moments by weight; before the first step they are zeros, which is what Adam begins with."""
    names = {parameter: name for name, parameter in step.model.named_parameters()}
    moments = {}
    for parameter in step.parameters:
        kept = step.optimizer.state[parameter]
        if not kept:
            zeros = {moment: torch.zeros_like(parameter) for moment in ("exp_avg", "exp_avg_sq")}
            kept.update({"step": torch.zeros((), device=parameter.device), **zeros})
        moments[names[parameter]] = {moment: value for moment, value in kept.items() if isinstance(value, Tensor)}
    return moments
