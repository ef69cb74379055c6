"""Exact AUC of many groups at once, with ties, from one sort."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def run_starts(values_B: NDArray[np.generic]) -> Ints:
    """Return where a new value begins."""
    return np.flatnonzero(np.concatenate([[True], values_B[1:] != values_B[:-1]])[: len(values_B)])


def group_aucs(
    segments_B: Ints, scores_B: NDArray[np.float32], labels_B: NDArray[np.int8], num_segments: int
) -> tuple[Ints, Floats]:
    """Return every segment's number of rows and AUC, NaN where a class is missing.

    Segment, score and label are packed into one integer per row: a plain sort of integers is several times faster
    than an indirect sort by two keys, and rows with equal score end up side by side.

    Raises:
        ValueError: a score is NaN.
    """
    packed_B = (segments_B.astype(np.uint64) << 33) | (sortable(scores_B) << 1) | labels_B.astype(np.uint64)
    packed_B.sort()
    ties = run_starts(packed_B >> 1)
    tie_rows = np.diff(np.append(ties, len(packed_B)))
    ends = np.concatenate([[0], np.cumsum(packed_B & 1, dtype=np.int64)])
    tie_positives = ends[ties + tie_rows] - ends[ties]
    tie_segment = (packed_B[ties] >> 33).astype(np.int64)
    return segment_aucs(tie_segment, tie_rows - tie_positives, tie_positives, num_segments)


def segment_aucs(segment: Ints, negatives: Ints, positives: Ints, num_segments: int) -> tuple[Ints, Floats]:
    """Return rows and AUC per segment from counts at every distinct score, ordered by segment and score."""
    totals = [np.bincount(segment, weights, num_segments) for weights in (negatives, positives)]
    before_segment = np.cumsum(totals[0]) - totals[0]
    below = np.cumsum(negatives) - negatives - before_segment[segment]
    wins = np.bincount(segment, positives * (below + negatives / 2), num_segments)
    pairs = totals[0] * totals[1]
    auc = np.divide(wins, pairs, out=np.full(num_segments, np.nan), where=pairs > 0)
    return (totals[0] + totals[1]).astype(np.int64), auc


def sortable(scores_B: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Map floats to integers in the same order."""
    if np.isnan(scores_B).any():
        raise ValueError("a score is NaN: it has no rank")
    bits_B = (scores_B + np.float32(0)).view(np.uint32)  # adding zero turns -0.0 into 0.0: they are a tie
    negative_B = bits_B >> 31 == 1
    return np.where(negative_B, ~bits_B, bits_B | np.uint32(1 << 31)).astype(np.uint64)
