"""The meter: training losses between two reports."""

import torch
from torch import Tensor

from recsys_mtl.objectives.losses import Objective
from recsys_mtl.training.step import StepResult, all_sum, rank, world_size


class Meter:
    """Mean losses since the last reading, over all workers."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.sums_2K: Tensor | None = None

    def add(self, result: StepResult) -> None:
        """Add a step's losses."""
        both_2K = torch.stack([result.sums_K, result.divisors_K])
        self.sums_2K = both_2K if self.sums_2K is None else self.sums_2K + both_2K

    def state(self) -> list[list[list[float]]] | None:
        """Return what has been added since the last reading, by worker. A collective."""
        if self.sums_2K is None:
            return None
        everyones_W2K = self.sums_2K.new_zeros(world_size(), *self.sums_2K.shape)
        everyones_W2K[rank()] = self.sums_2K
        return all_sum(everyones_W2K).tolist()

    def put_back(self, state: list[list[list[float]]] | None) -> None:
        """Go on from a state: with the same sums, to the last bit, if there are as many workers as there were."""
        if state is None:
            return
        everyones_W2K = self.objective.weights_K.new_tensor(state)
        if len(everyones_W2K) == world_size():
            self.sums_2K = everyones_W2K[rank()]
        else:  # one worker alone takes over the sums of all
            sums_K = everyones_W2K[:, 0].sum(0) * (rank() == 0)
            self.sums_2K = torch.stack([sums_K, everyones_W2K[0, 1]])

    def read(self) -> dict[str, float]:
        """Return the means by term of the loss and their weighted sum, and start again. A collective."""
        if self.sums_2K is None:
            return {}
        sums_K, divisors_K = all_sum(self.sums_2K[0]), self.sums_2K[1]
        self.sums_2K = None
        total = self.objective.combine(sums_K, divisors_K).item()
        terms = zip(self.objective.terms, sums_K.tolist(), divisors_K.tolist(), strict=True)
        return {**{name: s / d for name, s, d in terms if d > 0}, "total": total}
