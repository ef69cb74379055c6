"""Grouped AUC: how well each user's own impressions are ordered, averaged over users by impressions."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_mtl.metrics.binary import ratio
from recsys_mtl.metrics.ranking import Floats, Ints, group_aucs, run_starts
from recsys_mtl.metrics.reduction import Group, gather_rows, sum_over_workers_

BLOCK_ROWS = 65_536
"""Rows that are ranked together; fewer cost more time per row, more cost memory."""
UNKNOWN = 2
"""Stands for a missing label in the compact label columns."""


@dataclass(frozen=True)
class GroupedMetrics:
    """AUC within groups for one task, and how much of the data it rests on."""

    gauc: float
    """Mean AUC of the groups that have both classes, weighted by their rows."""
    gauc_groups: int
    """Groups that have both classes."""
    gauc_coverage: float
    """Share of the task's known rows that are in those groups."""


class GroupScores(NamedTuple):
    """The groups that entered a task's grouped AUC, one entry each."""

    group: Ints
    rows: Ints
    auc: Floats


class Block(NamedTuple):
    """Consecutive rows of a stream, a row of the matrices per task."""

    groups_B: Ints
    logits_TB: NDArray[np.float32]
    labels_TB: NDArray[np.int8]

    def cut(self, start: int, stop: int | None) -> "Block":
        """Return the rows from ``start`` to ``stop``."""
        rows = slice(start, stop)
        return Block(self.groups_B[rows], self.logits_TB[:, rows], self.labels_TB[:, rows])


class GroupedAUC:
    """Ranks every group's rows exactly as they stream by; ties count half.

    All rows of a group come one after the other and to one worker; batches may cut a group anywhere. What is held is
    about a block of rows, or the longest group. Scores are compared as float32.
    """

    def __init__(self, tasks: tuple[str, ...], *, block_rows: int = BLOCK_ROWS, collect: bool = False) -> None:
        self.tasks = tasks
        self.block_rows = block_rows
        self.sums = torch.zeros(len(tasks), 4, dtype=torch.float64)
        """Per task: AUC times rows, rows and number of the groups used; known rows."""
        self._waiting: list[Block] = []
        self._waiting_rows = 0
        self._enough = block_rows
        self._closed: Ints = np.empty(0, np.int64)
        self._collected: list[list[GroupScores]] | None = [[] for _ in tasks] if collect else None

    def update(self, groups_B: Tensor, logits_BT: Tensor, labels_BT: Tensor) -> None:
        """Add rows, in the stream's order; a NaN label is unknown and counts for nothing.

        Raises:
            ValueError: a group comes back; found if not more than ``block_rows`` other groups came in between.
        """
        labels_BT = torch.where(labels_BT.isnan(), UNKNOWN, labels_BT).to(torch.int8)
        # Rows wait for their group's end, so they are copied: the caller may fill the same memory again.
        columns = (groups_B.long(), logits_BT.detach().float(), labels_BT)
        self._waiting.append(Block(*(np.array(column.cpu().numpy().T, order="C") for column in columns)))
        self._waiting_rows += len(groups_B)
        if self._waiting_rows >= self._enough:
            self._rank(last=False)

    def close(self) -> None:
        """Rank the groups that still wait for rows: the stream has ended."""
        if self._waiting_rows:
            self._rank(last=True)

    def _rank(self, *, last: bool) -> None:
        groups, logits, labels = zip(*self._waiting, strict=True)
        block = Block(np.concatenate(groups), np.concatenate(logits, axis=1), np.concatenate(labels, axis=1))
        starts = run_starts(block.groups_B)
        end = len(block.groups_B) if last else int(starts[-1])  # the last group may go on in the next batch
        self._waiting, self._waiting_rows = [block.cut(end, None)], len(block.groups_B) - end
        self._enough = max(self.block_rows, 2 * self._waiting_rows)  # a huge group is not copied at every batch
        if end:
            self._add(block.cut(0, end), starts[starts < end])

    def _add(self, block: Block, starts: Ints) -> None:
        group_ids = block.groups_B[starts]
        self._refuse_returning(group_ids)
        lengths = np.diff(np.append(starts, len(block.groups_B)))
        segments_B = np.repeat(np.arange(len(starts)), lengths)
        for task, (logits_B, labels_B) in enumerate(zip(block.logits_TB, block.labels_TB, strict=True)):
            known_B = labels_B != UNKNOWN
            rows, auc = group_aucs(segments_B[known_B], logits_B[known_B], labels_B[known_B], len(starts))
            self._add_task(task, GroupScores(group_ids, rows, auc))

    def _refuse_returning(self, group_ids: Ints) -> None:
        known = np.concatenate([self._closed, group_ids])
        unique, counts = np.unique(known, return_counts=True)
        if len(unique) < len(known):
            raise ValueError(
                f"group {unique[counts > 1][0]} comes back after other groups: "
                "grouped metrics need all rows of a group one after the other, in one worker's stream"
            )
        self._closed = known[-self.block_rows :]

    def _add_task(self, task: int, scores: GroupScores) -> None:
        used = ~np.isnan(scores.auc)
        rows, auc = scores.rows[used], scores.auc[used]
        self.sums[task] += torch.tensor([rows @ auc, rows.sum(), used.sum(), scores.rows.sum()], dtype=torch.float64)
        if self._collected is not None:
            self._collected[task].append(GroupScores(scores.group[used], rows, auc))

    def state(self) -> dict[str, Tensor]:
        """Return the closed stream's sums; the states of two parts with different groups add up."""
        self.close()
        return {"sums": self.sums}

    def merge(self, other: "GroupedAUC") -> None:
        """Add what another accumulator of the same tasks has seen of other groups."""
        self.close()
        self.sums += other.state()["sums"]
        for task, collected in enumerate(self._collected or ()):
            collected.append(other.scores(task))

    def reduce_(self, group: Group = None) -> None:
        """Replace this worker's sums and collected groups by those of all workers; once, after the last update."""
        sum_over_workers_(list(self.state().values()), group)
        self.gather_(group)

    def gather_(self, group: Group = None) -> None:
        """Replace the collected groups by those of all workers."""
        if self._collected is None:
            return
        for task, _ in enumerate(self.tasks):
            columns = (gather_rows(torch.from_numpy(column), group).numpy() for column in self.scores(task))
            self._collected[task] = [GroupScores(*columns)]

    def compute(self) -> tuple[GroupedMetrics, ...]:
        """Close the stream and return the metrics of every task, in the tasks' order."""
        self.close()
        return tuple(
            GroupedMetrics(gauc=ratio(auc, used), gauc_groups=int(groups), gauc_coverage=ratio(used, known))
            for auc, used, groups, known in self.sums.tolist()
        )

    def scores(self, task: int) -> GroupScores:
        """Return the groups behind a task's number, to resample them; ``collect`` must be on."""
        assert self._collected is not None, "built without collect=True"
        self.close()
        none = GroupScores(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        columns = zip(none, *self._collected[task], strict=True)
        return GroupScores(*(np.concatenate(column) for column in columns))
