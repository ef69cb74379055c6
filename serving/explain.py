"""Why a candidate has its score: what each objective adds to it, and which experts each task listened to."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from recsys_mtl.fusion import Formula
from recsys_mtl.inference import Encoded, Engine
from recsys_mtl.layers import Gate, SelfGate
from recsys_mtl.model import Ranker
from serving.formulas import Formulas

Weights = dict[str, dict[str, float]]
"""Of experts, by what reads them."""


class Explainer:
    """Explains the scores of one model. Nothing is made or computed before the first request that asks."""

    def __init__(self, ranker: Ranker, engine: Engine, formulas: Formulas) -> None:
        self.ranker, self.engine, self.formulas = ranker, engine, formulas
        self.lock = Lock()
        self.watched: WatchedRanker | None = None

    def contributions(self, formula: Formula, scores_BT: Tensor, fused_B: Tensor) -> Tensor:
        """Return what each objective adds to each score (B, T), compared with the mean of the request's candidates.

        It is the score less what the score would be if the objective were the same for all candidates: their mean.
        """
        contributions_BT = torch.zeros(scores_BT.shape, dtype=torch.float64)
        mean_T = scores_BT.double().mean(0)
        for column, task in enumerate(self.formulas.names):
            if formula.effects().get(task, 0.0):
                without_BT = scores_BT.double().clone()
                without_BT[:, column] = mean_T[column]
                contributions_BT[:, column] = fused_B - self.formulas.fuse(formula, without_BT)
        return contributions_BT

    def baseline(self, formula: Formula, scores_BT: Tensor) -> dict[str, Any]:
        """Describe the candidate that contributions are compared with: the mean in every objective."""
        mean_BT = scores_BT.double().mean(0).expand(len(scores_BT), -1)
        score = float(self.formulas.fuse(formula, mean_BT)[0])
        return {"objectives": dict(zip(self.formulas.names, mean_BT[0].tolist(), strict=True)), "score": score}

    def gates(self, head: Encoded, candidates: Encoded, rows: Sequence[int]) -> list[dict[str, Weights]]:
        """Return for each of ``rows`` the weights of experts by gate and reader."""
        with self.lock, torch.inference_mode():  # hooks of the one watched copy write to one place
            if self.watched is None:
                self.watched = WatchedRanker(self.ranker)
            inputs = self.engine.inputs
            weights = self.watched.weights(inputs.features(inputs.embed(head, candidates)))
        found = [(name, gate, weights[name].tolist()) for name, gate in self.watched.gates.items()]
        return [{name: named(gate, values[row]) for name, gate, values in found} for row in rows]


class WatchedRanker:
    """A copy of a model's dense part whose gates are listened to; the one that answers is not touched."""

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = deepcopy(ranker)
        self.gates = dict(gates_of(self.ranker))
        self._heard: dict[str, Tensor] = {}
        for name, gate in self.gates.items():
            gate.register_forward_hook(self._listener(name))

    def weights(self, features: Any) -> dict[str, Tensor]:
        """Return every gate's weights (B, readers, experts)."""
        self.ranker(features)
        heard, self._heard = self._heard, {}
        return heard

    def _listener(self, name: str) -> Any:
        def listen(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self._heard[name] = output

        return listen


def gates_of(ranker: Ranker) -> Iterator[tuple[str, Gate | SelfGate]]:
    """Yield gates under the names that expert health gives them."""
    for name, module in ranker.named_modules(prefix="ranker"):
        if isinstance(module, Gate | SelfGate):
            yield name, module


def named(gate: Gate | SelfGate, weights: list[list[float]]) -> Weights:
    """Give one candidate's weights the names of readers and experts."""
    return {
        reader: dict(zip(experts, values, strict=True))
        for reader, experts, values in zip(gate.readers, gate.experts, weights, strict=True)
    }
