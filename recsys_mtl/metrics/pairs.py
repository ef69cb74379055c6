"""XAUC: how often a model puts two rows in the order of their targets, from a bounded sample of rows."""

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_mtl.metrics.ranking import Floats, Ints, run_starts
from recsys_mtl.metrics.reduction import Group, gather_rows

SAMPLE_ROWS = 50_000
"""Rows kept per task. XAUC's standard error is at most ``1 / sqrt(2 * rows)``, 0.003 here, and in practice half of it;
up to this many rows it is exact."""

Priorities = NDArray[np.uint64]


class RowNumbers:
    """Gives every row a random-looking number that depends on its group and its place in the group alone.

    So the rows that a sample keeps are the same whatever the batch size and the number of workers, and two models
    evaluated on the same data are compared on the same rows.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = np.uint64(seed)
        self._group: np.int64 | None = None
        self._seen = 0

    def number(self, groups_B: Ints) -> Priorities:
        """Number the next rows of the stream, in which groups are contiguous."""
        if not len(groups_B):
            return np.empty(0, np.uint64)
        starts = run_starts(groups_B)
        lengths = np.diff(np.append(starts, len(groups_B)))
        place_B = np.arange(len(groups_B)) - np.repeat(starts, lengths)
        if groups_B[0] == self._group:
            place_B[: lengths[0]] += self._seen
        self._group, self._seen = groups_B[-1], int(place_B[-1]) + 1
        return scramble(scramble(groups_B.astype(np.uint64) ^ self.seed) + place_B.astype(np.uint64))


def scramble(values_B: Priorities) -> Priorities:
    """Hash integers one to one (splitmix64's finaliser, after its increment)."""
    values_B = values_B + np.uint64(0x9E3779B97F4A7C15)
    values_B = (values_B ^ (values_B >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values_B = (values_B ^ (values_B >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values_B ^ (values_B >> np.uint64(31))


class PairSample:
    """The rows with the smallest numbers: a uniform sample that merges with those of other workers."""

    def __init__(self, size: int = SAMPLE_ROWS) -> None:
        self.size = size
        self.priorities: Priorities = np.empty(0, np.uint64)
        self.values: Floats = np.empty((0, 2))
        """Prediction and target of each sampled row."""
        self._waiting: list[tuple[Priorities, Floats]] = []
        self._rows = 0
        self._limit = np.uint64(2**64 - 1)

    def add(self, priorities_B: Priorities, values_B2: Floats) -> None:
        """Offer rows, each a pair of prediction and target, to the sample."""
        chosen_B = priorities_B <= self._limit
        self._waiting.append((priorities_B[chosen_B], values_B2[chosen_B]))
        self._rows += int(chosen_B.sum())
        if self._rows > 2 * self.size:
            self.settle()

    def settle(self) -> None:
        """Drop what does not belong to the sample."""
        waiting = [(self.priorities, self.values), *self._waiting]
        priorities, values = (np.concatenate(column) for column in zip(*waiting, strict=True))
        if len(priorities) > self.size:
            kept = np.argpartition(priorities, self.size - 1)[: self.size]
            priorities, values = priorities[kept], values[kept]
            self._limit = priorities.max()
        self.priorities, self.values = priorities, values
        self._waiting, self._rows = [], len(priorities)

    def gather_(self, group: Group = None) -> None:
        """Replace this worker's sample by that of all workers' rows."""
        self.settle()
        priorities = gather_rows(torch.from_numpy(self.priorities.view(np.int64)), group).numpy().view(np.uint64)
        values = gather_rows(torch.from_numpy(self.values), group).numpy()
        self.priorities, self.values = priorities, values
        self.settle()

    def xauc(self) -> float:
        """Return the share of sampled pairs that are in the right order; NaN where all targets are equal."""
        self.settle()
        return xauc(self.values[:, 0], self.values[:, 1])


def xauc(predictions_B: Floats, targets_B: Floats) -> float:
    """Return the share of pairs with different targets that the predictions order alike; equal predictions count half.

    Rows are ordered by target, equal targets by falling prediction, so that a pair with equal targets never rises.
    """
    ranks_B = np.unique(predictions_B, return_inverse=True)[1]
    order_B = np.lexsort((-ranks_B, targets_B))
    target_ranks_B = np.unique(targets_B, return_inverse=True)[1]
    both_B = target_ranks_B * len(ranks_B) + ranks_B
    pairs = len(ranks_B) * (len(ranks_B) - 1) // 2 - equal_pairs(targets_B)
    undecided = equal_pairs(predictions_B) - equal_pairs(both_B)
    return (rising_pairs(ranks_B[order_B]) + undecided / 2) / pairs if pairs else float("nan")


def equal_pairs(values_B: NDArray[np.generic]) -> int:
    """Count the pairs of equal values."""
    counts = np.unique(values_B, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def rising_pairs(ranks_B: Ints) -> int:
    """Count pairs ``i < j`` with ``ranks[i] < ranks[j]`` in ``O(n log n)``, without a loop over rows.

    Two ranks differ first at one bit: for each bit, among rows that agree on all higher bits, every 1 is counted with
    the 0s before it.
    """
    total = 0
    for bit in reversed(range(int(ranks_B.max(initial=0)).bit_length())):
        starts = run_starts(ranks_B >> (bit + 1))
        ones_B = (ranks_B >> bit) & 1
        zeros_before_B = np.cumsum(1 - ones_B) - (1 - ones_B)
        lengths = np.diff(np.append(starts, len(ranks_B)))
        total += int(ones_B @ (zeros_before_B - np.repeat(zeros_before_B[starts], lengths)))
        ranks_B = ranks_B[np.argsort(ranks_B >> bit, kind="stable")]
    return total
