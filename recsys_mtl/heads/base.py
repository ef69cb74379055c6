"""What all heads promise."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Heads(nn.Module, ABC):
    """Turns the tasks' hidden vectors into one output per task."""

    @abstractmethod
    def forward(self, h_BTH: Tensor) -> Tensor:
        """Return ``logits_BT``: a logit for an event, a value on the transformed scale for an amount."""

    def __call__(self, h_BTH: Tensor) -> Tensor:
        return super().__call__(h_BTH)  # type: ignore[no-any-return]
