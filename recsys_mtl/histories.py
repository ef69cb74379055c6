"""Packed histories: the events of all sequences of a batch side by side, without the padding between them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.features import Features


@dataclass(frozen=True)
class Packing:
    """Which N events of a batch are computed, and where they stand when a history must be seen as a whole.

    A history is one row's events in one sequence; sequence s of row b is history s·B + b, of J = S·B. Histories of
    about the same length share a grid, so that little of what is computed is padding.
    """

    history_N: Tensor
    """Whose event each one is, in rising order: the events of the first sequence come first."""
    position_N: Tensor
    """Place in the history, counted from the most recent event."""
    present_N: Tensor
    """Whether there is such an event; only compiled programs compute places without one."""
    place_N: Tensor
    """Where the event lies in the grids, all their places one after another."""
    grids: tuple[tuple[int, int], ...]
    """Number of histories and room for events of each grid."""
    per_sequence: tuple[int, ...]
    """How many of the N are events of each sequence."""
    num_histories: int
    """J."""

    @staticmethod
    def of(features: Features, max_events: int) -> "Packing":
        """Choose the last ``max_events`` events of every history."""
        room = min(max_events, max(e_BLD.shape[1] for e_BLD in features.sequences))
        length_J = torch.cat(features.lengths).clamp(max=room)
        # Shapes of a compiled or exported program must not depend on what a batch holds.
        choose = _every_place if torch.compiler.is_compiling() else _places_with_events
        event_N, start_J, grids, per_sequence = choose(length_J, room, len(features.lengths))
        history_N, position_N = event_N // room, event_N % room
        return Packing(
            history_N=history_N,
            position_N=position_N,
            present_N=position_N < length_J[history_N],
            place_N=start_J[history_N] + position_N,
            grids=grids,
            per_sequence=per_sequence,
            num_histories=length_J.shape[0],
        )

    def events(self, features: Features) -> Iterator[Tensor]:
        """Yield the events (N_s, D_s) of each sequence, in the order of ``history_N``."""
        sizes = list(self.per_sequence)
        parts = zip(torch.split(self.history_N, sizes), torch.split(self.position_N, sizes), strict=True)
        first = 0
        for (history_n, position_n), e_BLD, length_B in zip(parts, features.sequences, features.lengths, strict=True):
            row_n = history_n - first
            # A place without an event gives any event of the row.
            index_n = (length_B[row_n] - 1 - position_n).clamp(min=0)
            yield e_BLD.flatten(0, 1).index_select(0, row_n * e_BLD.shape[1] + index_n)
            first += length_B.shape[0]

    def padded(self, x: Tensor, fill: float = 0.0) -> list[Tensor]:
        """Lay events (N, ...) out in grids (P, L, ...); ``fill`` stands where there is none."""
        sizes = [P * L for P, L in self.grids]
        places = x.new_full((sum(sizes), *x.shape[1:]), fill).index_copy(0, self.place_N, x)
        parts = zip(torch.split(places, sizes), self.grids, strict=True)
        return [part.view(*grid, *x.shape[1:]) for part, grid in parts]

    def unpadded(self, grids: list[Tensor]) -> Tensor:
        """Undo `padded`."""
        return torch.cat([x_PL.flatten(0, 1) for x_PL in grids]).index_select(0, self.place_N)

    def summed(self, x: Tensor) -> Tensor:
        """Sum events (N, ...) by history (J, ...); one without events gives zeros."""
        return x.new_zeros(self.num_histories, *x.shape[1:]).index_add(0, self.history_N, x)


Choice = tuple[Tensor, Tensor, tuple[tuple[int, int], ...], tuple[int, ...]]
"""Which of J·room places are computed, where each history begins in the grids, the grids, places by sequence."""


def _every_place(length_J: Tensor, room: int, num_sequences: int) -> Choice:
    histories = length_J.shape[0]
    event_N = torch.arange(histories * room, device=length_J.device)
    return event_N, event_N[::room], ((histories, room),), (histories // num_sequences * room,) * num_sequences


def _places_with_events(length_J: Tensor, room: int, num_sequences: int) -> Choice:
    present = torch.arange(room, device=length_J.device) < length_J.unsqueeze(1)
    rooms = sorted({0, -(-room // 4), -(-room // 2), room})
    room_G = length_J.new_tensor(rooms)
    grid_J = torch.bucketize(length_J, room_G)
    order_J = grid_J.argsort()
    room_J = room_G[grid_J[order_J]]
    start_J = torch.empty_like(order_J).index_copy(0, order_J, room_J.cumsum(0) - room_J)
    histories = torch.bincount(grid_J, minlength=len(rooms)).tolist()
    # Histories without events have no place, hence no grid.
    grids = tuple(zip(histories[1:], rooms[1:], strict=True))
    per_sequence = length_J.view(num_sequences, length_J.shape[0] // num_sequences).sum(1).tolist()
    return present.flatten().nonzero().squeeze(1), start_J, grids, tuple(per_sequence)
