"""What every bottom promises."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys_mtl.features import Features


class Bottom(nn.Module, ABC):
    """Turns embedded features into the representations that experts read."""

    out_dim: int
    """R, the width of each representation."""

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Return ``x_BGR``; ``G`` is 1 when all tasks read the same representation and ``T`` when each has its own."""

    def __call__(self, features: Features) -> Tensor:
        return super().__call__(features)  # type: ignore[no-any-return]
