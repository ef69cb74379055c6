"""Items of a store in memory as one model reads them, so that each is encoded once and not for every request."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from recsys_mtl.data.values import Ints
from recsys_mtl.inference import Encoded, Side
from serving.store.rows import Found

Encode = Callable[[pa.Table], Encoded]
"""Turns raw rows of items into what the model reads."""


class EncodedItems:
    """Encodes rows of a store's table when they are first asked for; memory is taken for those alone.

    The last place is that of an item that the store does not know: all its features are missing.
    """

    def __init__(self, table: pa.Table, side: Side) -> None:
        self.table = table
        places = table.num_rows + 1
        self.known = np.zeros(places, np.bool_)
        self.singles_FN = np.zeros((len(side.singles), places), np.int32)
        self.dense_CN = np.zeros((len(side.dense), places), np.float32)
        self.empty_CN = np.zeros((len(side.dense), places), np.bool_)
        lengths = [feature.max_length for feature in side.bags]
        lengths += [sequence.max_length for sequence in side.sequences for _ in sequence.columns]
        self.lists = [(np.zeros((places, most), np.int32), np.zeros(places, np.int64)) for most in lengths]

    def take(self, found: Found, encode: Encode) -> Encoded:
        """Return the rows of keys.

        Raises:
            RequestError: a stored value that its feature cannot take.
        """
        rows = np.where(found.rows < 0, len(self.known) - 1, found.rows)
        if not self.known[rows].all():
            self._learn(np.unique(rows[~self.known[rows]]), encode)
        return Encoded(
            singles_FB=self.singles_FN[:, rows].astype(np.int64),
            lists=tuple(_listed(values_NL[rows], length_N[rows]) for values_NL, length_N in self.lists),
            dense_CB=self.dense_CN[:, rows],
            empty_CB=self.empty_CN[:, rows],
        )

    def _learn(self, rows: Ints, encode: Encode) -> None:
        mask = rows == self.table.num_rows
        encoded = encode(self.table.take(pa.array(rows, pa.int64(), mask=mask)))
        self.singles_FN[:, rows], self.dense_CN[:, rows] = encoded.singles_FB, encoded.dense_CB
        self.empty_CN[:, rows] = encoded.empty_CB
        for (values_NL, length_N), (values, lengths) in zip(self.lists, encoded.lists, strict=True):
            present = np.arange(values_NL.shape[1]) < lengths[:, None]
            padded = np.zeros((len(rows), values_NL.shape[1]), np.int32)
            padded[present] = values
            values_NL[rows], length_N[rows] = padded, lengths
        self.known[rows] = True  # last: another thread may look meanwhile


def _listed(values_BL: np.ndarray, length_B: Ints) -> tuple[Ints, Ints]:
    present = np.arange(values_BL.shape[1]) < length_B[:, None]
    return values_BL[present].astype(np.int64), length_B
