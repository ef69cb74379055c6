"""What all heads promise, and the funnel as heads walk it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor, nn

from recsys_mtl.tasks import Task, funnel


class Heads(nn.Module, ABC):
    """Turns the tasks' hidden vectors into one output per task."""

    @abstractmethod
    def forward(self, h_BTH: Tensor) -> Tensor:
        """Return ``logits_BT``: a logit for an event, a value on the transformed scale for an amount."""

    def __call__(self, h_BTH: Tensor) -> Tensor:
        return super().__call__(h_BTH)  # type: ignore[no-any-return]


class Links(nn.Module):
    """Events of one depth of the funnel, each with the event that it follows: L links, taken at once."""

    later_L: Tensor
    earlier_L: Tensor

    def __init__(self, pairs: tuple[tuple[int, int], ...]) -> None:
        """``pairs`` holds the positions of each later event and of its earlier one."""
        super().__init__()
        for name, positions in zip(("later_L", "earlier_L"), zip(*pairs, strict=True), strict=True):
            self.register_buffer(name, torch.tensor(positions), persistent=False)

    def __len__(self) -> int:
        return len(self.later_L)

    def later(self, x: Tensor) -> Tensor:
        """Return what ``x`` (B, T, ...) holds for the later events (B, L, ...)."""
        return x.index_select(1, self.later_L)

    def earlier(self, x: Tensor) -> Tensor:
        """Return what ``x`` (B, T, ...) holds for the events before them (B, L, ...)."""
        return x.index_select(1, self.earlier_L)

    def replace_later(self, x: Tensor, values: Tensor) -> Tensor:
        """Return ``x`` (B, T, ...) with ``values`` (B, L, ...) for the later events."""
        return x.index_copy(1, self.later_L, values)


class Funnel(nn.ModuleList):
    """The links of a funnel by depth, those that follow a first event first; empty where no task follows another."""

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        depths: dict[int, int] = {}
        for later, earlier in funnel(tasks):
            depths[later] = depths.get(earlier, 0) + 1
        # By name within a depth: what belongs to a link must not depend on the order of the tasks.
        pairs = sorted(funnel(tasks), key=lambda pair: (depths[pair[0]], tasks[pair[0]].name))
        super().__init__(Links(tuple(level)) for _, level in groupby(pairs, key=lambda pair: depths[pair[0]]))

    def __iter__(self) -> Iterator[Links]:
        return super().__iter__()  # type: ignore[return-value]
