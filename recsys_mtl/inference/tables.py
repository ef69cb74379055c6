"""Embedding tables for look-ups of single requests: all tables of one width are one matrix."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from recsys_mtl.data.values import Ints
from recsys_mtl.quantised import as_floats, width_of


class FusedTables:
    """A look-up per width instead of one per table, whose fixed cost would exceed that of the rows.

    Tables may be in eight bits, then all of them. Those that follow each other in a file stay where they are, mapped
    from it: all processes of a machine share one copy. Others are copied together.
    """

    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        by_width: dict[int, list[str]] = {}
        for name, table in tables.items():
            by_width.setdefault(width_of(table), []).append(name)
        self.first_row: dict[str, int] = {}
        self.width: dict[str, int] = {}
        self.weights: dict[int, Tensor] = {}
        for width, names in by_width.items():
            names.sort(key=lambda name: tables[name].storage_offset())
            self.weights[width] = joined([tables[name] for name in names])
            row = 0
            for name in names:
                self.first_row[name], self.width[name] = row, width
                row += tables[name].shape[0]

    def vectors(self, width: int, rows: Ints) -> Tensor:
        """Return the vectors (N, D) of rows (N,) of the joint table of a width."""
        return as_floats(self.weights[width].index_select(0, torch.from_numpy(rows)))


def joined(tables_ND: list[Tensor]) -> Tensor:
    """Put tables of equal width below each other: without a copy if they lie so in memory."""
    first = tables_ND[0]
    if all(_follows(after, before) for before, after in pairwise(tables_ND)):
        rows = sum(table.shape[0] for table in tables_ND)
        return first.as_strided((rows, first.shape[1]), (first.shape[1], 1), first.storage_offset())
    return torch.cat(tables_ND)


def _follows(after: Tensor, before: Tensor) -> bool:
    same = after.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
    dense = after.is_contiguous() and before.is_contiguous()
    return same and dense and after.storage_offset() == before.storage_offset() + before.numel()
