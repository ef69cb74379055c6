"""What every expert layer promises."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys_mtl.layers import GroupedLinear


class ExpertLayer(nn.Module, ABC):
    """Turns the bottom's representation into one hidden vector per task."""

    out_dim: int
    """H, the width of each task's hidden vector."""

    @abstractmethod
    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BTH``; ``G`` is 1 when the tasks share their bottom and ``T`` when they do not."""

    def input_maps(self) -> list[GroupedLinear]:
        """Return the linear maps that read ``x_BGR`` where G is 1, if it is read by nothing else; otherwise none.

        Inference computes them together, and the part that a request's candidates have in common only once.
        """
        return []

    def __call__(self, x_BGR: Tensor) -> Tensor:
        return super().__call__(x_BGR)  # type: ignore[no-any-return]
