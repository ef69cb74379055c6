"""XAUC under any weights of the users, many replicates at once."""

from typing import NamedTuple

import numpy as np

from recsys_mtl.metrics.pairs import SAMPLE_ROWS
from recsys_mtl.metrics.ranking import Floats, Ints, run_starts
from recsys_mtl.metrics.user_metrics import Counts, Singles, Support, UserMetric, ratios, running


class Level(NamedTuple):
    """Pairs whose ranks differ first at one bit: rows with a 1 there, and the 0s that they come after."""

    zeros_M: Ints
    """Whose the rows with a 0 are."""
    ones_P: Ints
    start_P: Ints
    """Rows with a 0 before the run of equal higher bits that a 1 lies in."""
    stop_P: Ints
    """Rows with a 0 before the 1 itself."""

    def pairs(self, counts_RU: Counts) -> Floats:
        """Count the pairs in every replicate (R,)."""
        mass_RM = running(counts_RU, self.zeros_M)
        before_RP = np.take(mass_RM, self.stop_P, axis=1) - np.take(mass_RM, self.start_P, axis=1)
        weights_RP = np.take(counts_RU, self.ones_P, axis=1)
        rising_R: Floats = np.einsum("rp,rp->r", before_RP, weights_RP, dtype=np.float64)
        return rising_R


class Equals(NamedTuple):
    """Rows side by side that are equal in something."""

    users_N: Ints
    starts: Ints

    @classmethod
    def of(cls, users_N: Ints, values_N: Ints) -> "Equals":
        """Bring rows of equal value together."""
        order_N = np.argsort(values_N, kind="stable")
        return cls(users_N[order_N], run_starts(values_N[order_N]))

    def squares(self, counts_RU: Counts) -> Floats:
        """Add up the squares of how many rows are equal (R,)."""
        if not len(self.users_N):
            return np.zeros(len(counts_RU))
        sizes = np.add.reduceat(np.take(counts_RU, self.users_N, axis=1), self.starts, axis=1)
        squares_R: Floats = np.einsum("rn,rn->r", sizes, sizes, dtype=np.float64)
        return squares_R


class UserXAUC(UserMetric):
    """Share of pairs of rows with different labels that are in the right order; ties count half.

    Of more than 50,000 rows that many are drawn, the same ones for every model.
    """

    kind = "regression"

    def __init__(self, users_N: Ints, scores_N: Singles, labels_N: Singles) -> None:
        if len(users_N) > SAMPLE_ROWS:
            drawn_N = np.random.default_rng(0).permutation(len(users_N))[:SAMPLE_ROWS]
            users_N, scores_N, labels_N = users_N[drawn_N], scores_N[drawn_N], labels_N[drawn_N]
        ranks_N, targets_N = (np.unique(values, return_inverse=True)[1] for values in (scores_N, labels_N))
        # Equal labels come by falling score, so that a pair of them never rises, as in metrics.pairs.
        order_N = np.lexsort((-ranks_N, targets_N))
        self.levels = tuple(levels(users_N[order_N], ranks_N[order_N]))
        self.users_N = users_N
        self.same_label = Equals.of(users_N, targets_N)
        tied_N = (np.bincount(ranks_N) > 1)[ranks_N]  # a score that no other row has is equal in both, hence in neither
        both_N = targets_N * len(ranks_N) + ranks_N
        self.same_score = Equals.of(users_N[tied_N], ranks_N[tied_N])
        self.same_both = Equals.of(users_N[tied_N], both_N[tied_N])
        users = len(np.unique(users_N))
        self.support = Support(users, len(users_N), None, users)

    def replicate(self, counts_RU: Counts) -> Floats:
        # Copies of a row are equal in everything, so what they add to the squares cancels out.
        rows_R = np.take(counts_RU, self.users_N, axis=1).sum(1, dtype=np.float64)
        pairs_R = (rows_R**2 - self.same_label.squares(counts_RU)) / 2
        undecided_R = (self.same_score.squares(counts_RU) - self.same_both.squares(counts_RU)) / 2
        rising_R = sum((level.pairs(counts_RU) for level in self.levels), np.zeros(len(counts_RU)))
        return ratios(rising_R + undecided_R / 2, pairs_R)


def levels(users_N: Ints, ranks_N: Ints) -> list[Level]:
    """Sort out once which rows rise above which: two ranks differ first at one bit."""
    found = []
    for bit in reversed(range(int(ranks_N.max(initial=0)).bit_length())):
        starts = run_starts(ranks_N >> (bit + 1))
        lengths = np.diff(np.append(starts, len(ranks_N)))
        one_N = (ranks_N >> bit) & 1 == 1
        zeros_before_N = np.cumsum(~one_N) - ~one_N
        start_P = np.repeat(zeros_before_N[starts], lengths)[one_N]
        found.append(Level(users_N[~one_N], users_N[one_N], start_P, zeros_before_N[one_N]))
        order_N = np.argsort(ranks_N >> bit, kind="stable")
        users_N, ranks_N = users_N[order_N], ranks_N[order_N]
    return found
