"""Metrics of one task under any weights of its users: what a bootstrap over users measures, many replicates at once."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_mtl.metrics.ranking import Floats, Ints, group_aucs

Counts = NDArray[np.int32]
Singles = NDArray[np.float32]


class Support(NamedTuple):
    """What a number rests on."""

    users: int
    rows: int
    positives: int | None
    """None for amounts."""
    rarer: int
    """Users that have a row of the class that fewer users have."""


class UserMetric(ABC):
    """One model's metric on one task's rows, for any weights of the users: R replicates of U users at once."""

    kind: ClassVar[Literal["binary", "regression"]]
    sign: ClassVar[Literal[1, -1]] = 1
    """1 where more is better."""
    support: Support

    @abstractmethod
    def __init__(self, users_N: Ints, scores_N: Singles, labels_N: Singles) -> None:
        """Take the rows with a known label; users are numbered from 0."""

    @abstractmethod
    def replicate(self, counts_RU: Counts) -> Floats:
        """Return the metric with every row counted as often as its user (R,); NaN where the draw does not define it."""

    def value(self, num_users: int) -> float:
        """Return the metric of the rows as they are."""
        return float(self.replicate(np.ones((1, num_users), np.int32))[0])


class UserAUC(UserMetric):
    """AUC over all rows, ties counting half. Scores are sorted once; a replicate costs one pass over the rows."""

    kind = "binary"

    def __init__(self, users_N: Ints, scores_N: Singles, labels_N: Singles) -> None:
        positive_N = labels_N > 0
        self.positives_P = users_N[positive_N]
        """Whose the positives are; the negatives follow, by rising score."""
        order = np.argsort(scores_N[~positive_N], kind="stable")
        self.negatives_M = users_N[~positive_N][order]
        negative_scores_M = scores_N[~positive_N][order]
        self.below_P, self.upto_P = (
            np.searchsorted(negative_scores_M, scores_N[positive_N], side) for side in ("left", "right")
        )
        """Negatives with a lower score than each positive, and with at most its score."""
        classes = [len(np.unique(users)) for users in (self.positives_P, self.negatives_M)]
        self.support = Support(len(np.unique(users_N)), len(users_N), int(positive_N.sum()), min(classes))

    def replicate(self, counts_RU: Counts) -> Floats:
        mass_RM = running(counts_RU, self.negatives_M)
        weights_RP = np.take(counts_RU, self.positives_P, axis=1)
        twice_below_RP = np.take(mass_RM, self.below_P, axis=1) + np.take(mass_RM, self.upto_P, axis=1)
        wins_R = np.einsum("rp,rp->r", twice_below_RP, weights_RP, dtype=np.float64) / 2  # whole numbers: exact
        return ratios(wins_R, weights_RP.sum(1, dtype=np.float64) * mass_RM[:, -1])


class UserMean(UserMetric):
    """A metric that is a ratio of sums, such as a mean over rows: V users have a part in both."""

    def __init__(self, users_V: Ints, rows_V: Ints, sums_V: Floats) -> None:
        self.users_V = users_V
        self.terms_V2 = np.stack([sums_V, rows_V.astype(np.float64)], axis=1)

    def replicate(self, counts_RU: Counts) -> Floats:
        totals_R2 = np.take(counts_RU, self.users_V, axis=1).astype(np.float64) @ self.terms_V2
        return ratios(*totals_R2.T)


class UserGAUC(UserMean):
    """Grouped AUC, as ``metrics.grouped`` has it: the mean AUC of users with both classes, weighted by their rows."""

    kind = "binary"

    def __init__(self, users_N: Ints, scores_N: Singles, labels_N: Singles) -> None:
        num_users = int(users_N.max(initial=-1)) + 1
        rows_U, auc_U = group_aucs(users_N, scores_N, labels_N.astype(np.int8), num_users)
        used_V = np.flatnonzero(~np.isnan(auc_U))
        super().__init__(used_V, rows_U[used_V], rows_U[used_V] * auc_U[used_V])
        positives = np.bincount(users_N, labels_N, num_users)[used_V].sum()
        self.support = Support(len(used_V), int(rows_U[used_V].sum()), int(positives), len(used_V))


class UserRMSE(UserMean):
    """Root mean square error of amounts, over all rows."""

    kind = "regression"
    sign = -1

    def __init__(self, users_N: Ints, scores_N: Singles, labels_N: Singles) -> None:
        rows_U = np.bincount(users_N)
        errors_U: Floats = np.bincount(users_N, (scores_N.astype(np.float64) - labels_N) ** 2).astype(np.float64)
        used_V = np.flatnonzero(rows_U)
        super().__init__(used_V, rows_U[used_V], errors_U[used_V])
        self.support = Support(len(used_V), len(users_N), None, len(used_V))

    def replicate(self, counts_RU: Counts) -> Floats:
        return super().replicate(counts_RU) ** 0.5


class UserCalibration(UserMean):
    """Predicted over observed positives of an event, whose scores are logits: the nearer to 1 the better."""

    kind = "binary"

    def __init__(self, users_N: Ints, scores_N: Singles, labels_N: Singles) -> None:
        num_users = int(users_N.max(initial=-1)) + 1
        chances_N = 1 / (1 + np.exp(-scores_N.astype(np.float64).clip(-500, 500)))
        predicted_U: Floats = np.bincount(users_N, chances_N, num_users).astype(np.float64)
        positives_U = np.bincount(users_N, labels_N, num_users).astype(np.int64)
        negatives_U = np.bincount(users_N, minlength=num_users) - positives_U
        used_V = np.flatnonzero(positives_U + negatives_U)
        super().__init__(used_V, positives_U[used_V], predicted_U[used_V])
        rarer = min(int(np.count_nonzero(part_U)) for part_U in (positives_U, negatives_U))
        self.support = Support(len(used_V), len(users_N), int(positives_U.sum()), rarer)


def running(counts_RU: Counts, users_M: Ints) -> Counts:
    """Count the first 0, 1, ..., M of rows, given whose they are (R, M + 1)."""
    mass_RM = np.zeros((len(counts_RU), len(users_M) + 1), np.int32)
    np.cumsum(np.take(counts_RU, users_M, axis=1), axis=1, out=mass_RM[:, 1:])
    return mass_RM


def ratios(parts: Floats, wholes: Floats) -> Floats:
    """Divide; NaN where there is nothing to divide by."""
    quotients: Floats = np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
    return quotients
