"""Packed histories: the events of all sequences of a batch side by side, without the padding between them."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad


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
    order_P: Tensor
    """The histories that are in grids, in the order in which they lie there: those with events."""
    per_sequence: tuple[int, ...]
    """How many of the N are events of each sequence."""
    length_J: Tensor
    """Events of each history that are computed."""

    @staticmethod
    def of(lengths: Sequence[Tensor], max_events: int) -> "Packing":
        """Choose the last ``max_events`` events of every history; ``lengths`` holds (B,) for each sequence."""
        length_J = torch.cat(list(lengths))
        # Shapes of a compiled or exported program must not depend on what a batch holds.
        compiling = torch.compiler.is_compiling()
        room = max_events if compiling else min(max_events, max(int(length_J.max()), 1))
        length_J = length_J.clamp(max=room)
        choose = _every_place if compiling else _places_with_events
        event_N, start_J, order_P, grids, per_sequence = choose(length_J, room, len(lengths))
        history_N, position_N = event_N // room, event_N % room
        return Packing(
            history_N=history_N,
            position_N=position_N,
            present_N=position_N < length_J[history_N],
            place_N=start_J[history_N] + position_N,
            grids=grids,
            order_P=order_P,
            per_sequence=per_sequence,
            length_J=length_J,
        )

    def events(self, sequences: Sequence[Tensor], lengths: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield events (N_s, D_s) of each sequence in the order of ``history_N``; a place without one gives zeros."""
        sizes = list(self.per_sequence)
        parts = zip(
            *(torch.split(x_N, sizes) for x_N in (self.history_N, self.position_N, self.present_N)), strict=True
        )
        first = 0
        for (history_n, position_n, present_n), e_ND, length_B in zip(parts, sequences, lengths, strict=True):
            last_B = length_B.cumsum(0) - 1
            index_n = last_B[history_n - first] - position_n
            yield pad(e_ND, (0, 0, 0, 1)).index_select(0, index_n.where(present_n, e_ND.shape[0]))
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

    def rows(self, x: Tensor) -> list[Tensor]:
        """Take of each grid's histories (P, ...) what is theirs of ``x`` (J, ...)."""
        return list(torch.split(x.index_select(0, self.order_P), [P for P, _ in self.grids]))

    def unrowed(self, grids: list[Tensor]) -> Tensor:
        """Undo `rows`; a history without events gives zeros."""
        x = torch.cat(grids)
        return x.new_zeros(self.length_J.shape[0], *x.shape[1:]).index_copy(0, self.order_P, x)

    def summed(self, x: Tensor) -> Tensor:
        """Sum events (N, ...) by history (J, ...); one without events gives zeros."""
        return x.new_zeros(self.length_J.shape[0], *x.shape[1:]).index_add(0, self.history_N, x)


Choice = tuple[Tensor, Tensor, Tensor, tuple[tuple[int, int], ...], tuple[int, ...]]
"""Which of J·room places are computed, where each history begins in the grids, whose histories lie in them in which
order, the grids, places by sequence."""


def _every_place(length_J: Tensor, room: int, num_sequences: int) -> Choice:
    histories = length_J.shape[0]
    event_N = torch.arange(histories * room, device=length_J.device)
    per_sequence = (histories // num_sequences * room,) * num_sequences
    return event_N, event_N[::room], event_N[:histories], ((histories, room),), per_sequence


def _places_with_events(length_J: Tensor, room: int, num_sequences: int) -> Choice:
    present = torch.arange(room, device=length_J.device) < length_J.unsqueeze(1)
    rooms = sorted({0, -(-room // 4), -(-room // 2), room})
    room_G = length_J.new_tensor(rooms)
    grid_J = torch.bucketize(length_J, room_G)
    order_J = grid_J.argsort()
    room_J = room_G[grid_J[order_J]]
    start_J = torch.empty_like(order_J).index_copy(0, order_J, room_J.cumsum(0) - room_J)
    histories = torch.bincount(grid_J, minlength=len(rooms)).tolist()
    # Histories without events have no place, hence no grid; where there are no others, an empty one remains.
    filled = tuple((P, L) for P, L in zip(histories[1:], rooms[1:], strict=True) if P)
    grids = filled or ((0, room),)
    per_sequence = length_J.view(num_sequences, length_J.shape[0] // num_sequences).sum(1).tolist()
    events_N = present.flatten().nonzero().squeeze(1)
    return events_N, start_J, order_J[histories[0] :], grids, tuple(per_sequence)


def mean_of_rows(e_ND: Tensor, length_B: Tensor) -> Tensor:
    """Return the mean (B, D) of each row's events; of none it is zero."""
    return sum_of_rows(e_ND, length_B) / length_B.clamp(min=1).unsqueeze(1)


def sum_of_rows(e_ND: Tensor, length_B: Tensor) -> Tensor:
    """Return the sum (B, D) of each row's events."""
    row_N = torch.repeat_interleave(length_B, output_size=e_ND.shape[0])
    return e_ND.new_zeros(length_B.shape[0], e_ND.shape[1]).index_add(0, row_N, e_ND)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Leave autocast, if it is on: histories have other lengths in every batch.

    On CPUs, a product in bfloat16 is compiled for each shape that is new, which takes longer than what it saves.
    """
    is_low = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_low else nullcontext()
