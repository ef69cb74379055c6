"""How a run gets on, and who wants to know."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recsys_mtl.training.select import Metrics


class Listener:
    """Who wants to know how a run goes. Called on every worker; this one, which most workers have, does nothing."""

    def on_step(self, progress: "Progress") -> None:
        """Hear of a step."""

    def on_evaluation(self, step: int, metrics: Metrics, best: bool) -> None:
        """Hear of an evaluation; ``best`` tells that the weights are kept."""

    def on_not_finite(self, record: Mapping[str, Any]) -> None:
        """Hear of a batch whose numbers are not finite, and where its rows lie."""

    def unsent(self) -> Any:
        """Return what was heard and has not been passed on yet, as plain values: a checkpoint takes it along."""

    def resend(self, unsent: Any) -> None:
        """Pass on what the listener before this one could not, in the run that this one goes on with."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step."""

    step: int
    total_steps: int
    losses: Mapping[str, float]
    """Mean training loss by task since the last report, and ``total``; empty between reports."""
    rows_per_s: float
    waited: float
    """Share of the training time that steps waited for data."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What was left out of training so far, if anything was."""


@dataclass
class Outcome:
    """What a finished run knows."""

    steps: int = 0
    best_step: int = 0
    best_value: float = math.nan
    stopped_early: bool = False
    rows: int = 0
    seconds: float = 0.0
    """Time in training steps and waiting for them, without evaluation."""
    waited_s: float = 0.0
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    """Step and value of the metric that selects."""
    failed_saves: int = 0
    """Checkpoints that could not be written."""
    not_finite: int = 0
    """Batches that were left out because their loss was not a finite number."""
    damaged: dict[str, int] = field(default_factory=dict)
    """Rows that were left out because they could not be read, over all epochs, by row group."""

    @property
    def left_out(self) -> dict[str, int]:
        """Count what was left out; empty if nothing was."""
        counts = {"not_finite_batches": self.not_finite, "damaged_row_groups": len(self.damaged)}
        counts["damaged_rows"] = sum(self.damaged.values())
        return {name: count for name, count in counts.items() if count}
