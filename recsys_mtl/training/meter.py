"""The meter: training losses between two reports."""

import torch
from torch import Tensor

from recsys_mtl.objectives.losses import Objective
from recsys_mtl.training.step import StepResult, all_sum, rank


class Meter:
    """Mean losses since the last reading, over all workers."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.sums_2K: Tensor | None = None

    def add(self, result: StepResult) -> None:
        """Add a step's losses."""
        both_2K = torch.stack([result.sums_K, result.divisors_K])
        self.sums_2K = both_2K if self.sums_2K is None else self.sums_2K + both_2K

    def state(self) -> list[list[float]] | None:
        """Return what has been added since the last reading, over all workers. A collective."""
        if self.sums_2K is None:
            return None
        both_2K = self.sums_2K.clone()
        both_2K[0] = all_sum(both_2K[0])
        return both_2K.tolist()

    def put_back(self, state: list[list[float]] | None) -> None:
        """Go on from a state: one worker alone keeps the sums that were those of all."""
        if state is None:
            return
        self.sums_2K = self.objective.weights_K.new_tensor(state)
        if rank() > 0:
            self.sums_2K[0] = 0

    def read(self) -> dict[str, float]:
        """Return the means by term of the loss and their weighted sum, and start again. A collective."""
        if self.sums_2K is None:
            return {}
        sums_K, divisors_K = all_sum(self.sums_2K[0]), self.sums_2K[1]
        self.sums_2K = None
        total = self.objective.combine(sums_K, divisors_K).item()
        terms = zip(self.objective.terms, sums_K.tolist(), divisors_K.tolist(), strict=True)
        return {**{name: s / d for name, s, d in terms if d > 0}, "total": total}
