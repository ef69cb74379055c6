"""What every expert layer promises."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ExpertLayer(nn.Module, ABC):
    """Turns the bottom's representation into one hidden vector per task."""

    out_dim: int
    """H, the width of each task's hidden vector."""

    @abstractmethod
    def forward(self, x_BGR: Tensor) -> Tensor:
        """Return ``h_BTH``; ``G`` is 1 when the tasks share their bottom and ``T`` when they do not."""

    def __call__(self, x_BGR: Tensor) -> Tensor:
        return super().__call__(x_BGR)  # type: ignore[no-any-return]
