"""Optimisers: one that is fused into the tables' backward pass, one for the dense part."""

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchrec.optim import SGD, Adagrad, RowWiseAdagrad

from recsys_mtl.config import Config


class SparseConfig(Config):
    """The tables' optimiser. It updates only rows that a batch has touched, inside the backward pass.

    These are the ones that fbgemm has for CPU tables; none of them keeps more than one number per weight.
    """

    kind: Literal["rowwise_adagrad", "adagrad", "sgd"] = "rowwise_adagrad"
    """``rowwise_adagrad`` keeps one number for each row of a table, ``adagrad`` one for each weight, ``sgd`` none."""
    lr: PositiveFloat = 0.05
    """Learning rate; it is the same throughout."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the accumulated squares; ``sgd`` has none and ignores it."""

    init_deviation: PositiveFloat = 0.01
    """Standard deviation of fresh embedding weights."""

    @property
    def optimizer(self) -> tuple[type[Optimizer], dict[str, Any]]:
        """Class and arguments, as torchrec wants them."""
        if self.kind == "sgd":
            return SGD, {"lr": self.lr}
        return {"rowwise_adagrad": RowWiseAdagrad, "adagrad": Adagrad}[self.kind], {"lr": self.lr, "eps": self.eps}


class DenseConfig(Config):
    """The dense part's optimiser: Adam with decoupled weight decay."""

    lr: PositiveFloat = 1e-3
    """Highest learning rate, between warm-up and decay."""
    gates: PositiveFloat = 1.0
    """Factor of the learning rate for the gates that choose between experts. As fast as the experts, they tend to
    settle on one before the others have learnt anything."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the means of gradients and of their squares, for each step."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Share of a weight, times the learning rate, that each step takes away."""
    clip_norm: PositiveFloat | None = 10.0
    """Largest norm of the dense gradient; a larger one is scaled down."""
    warmup_steps: NonNegativeInt = 100
    """Steps over which the learning rate rises from nothing, but at most a tenth of the run."""
    decay: Literal["none", "linear", "cosine"] = "cosine"
    """How the learning rate falls from there to the last step of the run."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the learning rate that is left at the last step."""

    def build(self, parameters: list[nn.Parameter], gates: Collection[nn.Parameter] = ()) -> Optimizer:
        """Make the optimiser; ``gates`` are those of the parameters that choose between experts."""
        chosen = {id(gate) for gate in gates}
        groups = [
            {"params": [p for p in parameters if id(p) not in chosen], "lr": self.lr},
            {"params": [p for p in parameters if id(p) in chosen], "lr": self.lr * self.gates},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=self.betas,
            weight_decay=self.weight_decay,
            fused=True,  # one pass over a weight and what is remembered of it
        )

    def schedule(self, optimizer: Optimizer, total_steps: int) -> LambdaLR:
        """Make the learning rate's schedule over a run."""
        return LambdaLR(optimizer, lambda step: self.factor(step, total_steps))

    def factor(self, step: int, total_steps: int) -> float:
        """Return the share of the learning rate that holds at a step."""
        warmup = min(self.warmup_steps, total_steps // 10)
        if step < warmup:
            return (step + 1) / warmup
        if self.decay == "none":
            return 1.0
        done = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
        left = 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.final + (1 - self.final) * left


class OptimConfig(Config):
    """Both optimisers."""

    dense: DenseConfig = DenseConfig()
    sparse: SparseConfig = SparseConfig()
