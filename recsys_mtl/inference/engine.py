"""The engine: encoded values of one request to a score for every candidate and task."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor

from recsys_mtl.bottoms.dtrn import DTRN
from recsys_mtl.bottoms.shared import SharedBottom
from recsys_mtl.bundle import Bundle
from recsys_mtl.calibration import Calibration, predictions
from recsys_mtl.data.spec import Spec
from recsys_mtl.inference.dtrn import DTRNInference
from recsys_mtl.inference.encoded import Encoded
from recsys_mtl.inference.folding import fold_batch_norms
from recsys_mtl.inference.inputs import Embedded, Inputs
from recsys_mtl.inference.plain import PlainInference
from recsys_mtl.inference.shared import SharedInference
from recsys_mtl.inference.tables import FusedTables
from recsys_mtl.model import Ranker
from recsys_mtl.tasks import Task


class Engine:
    """Scores requests with a model in evaluation mode. Calls from several threads do not disturb each other."""

    def __init__(
        self,
        ranker: Ranker,
        tables: Mapping[str, Tensor],
        spec: Spec,
        tasks: tuple[Task, ...],
        calibration: Calibration | None = None,
    ) -> None:
        """``tables`` are those of the model by the names of its parameters."""
        self.tasks, self.calibration = tasks, calibration
        self.inputs = Inputs(spec, FusedTables({table_name(name): table for name, table in tables.items()}))
        self.dense = dense_of(ranker, self.inputs)

    @classmethod
    def of(cls, bundle: Bundle) -> "Engine":
        """Make the engine of a bundle."""
        return cls(bundle.ranker, bundle.tables, bundle.encoder.spec, bundle.manifest.tasks, bundle.calibration)

    def score(self, head: Encoded, items: Encoded) -> Tensor:
        """Return calibrated probabilities, and amounts in their natural unit (B, T)."""
        return self.score_together([(head, items)])[0]

    def score_together(self, requests: Sequence[tuple[Encoded, Encoded]]) -> tuple[Tensor, ...]:
        """Return the same for several requests at once: above the bottom, all candidates are rows of one batch."""
        with torch.inference_mode():
            parts = [self.dense.below(self.inputs.embed(head, items)) for head, items in requests]
            logits_BT = self.dense.above(parts[0] if len(parts) == 1 else torch.cat(parts))
            return torch.split(predictions(logits_BT, self.tasks, self.calibration), [len(part) for part in parts])


class Dense(Protocol):
    """The part of a model above the tables, in two stages."""

    def below(self, embedded: Embedded) -> Tensor:
        """Turn a request's inputs into a row for each candidate."""

    def above(self, x: Tensor) -> Tensor:
        """Return ``logits_BT`` of rows, whichever requests they are from."""


def dense_of(ranker: Ranker, inputs: Inputs) -> Dense:
    """Choose how the dense part is computed: split by the bottom's kind, or as in training with repeated inputs."""
    ranker = deepcopy(ranker)
    fold_batch_norms(ranker)
    bottom, of_request = ranker.bottom, not inputs.items.sequences
    if isinstance(bottom, SharedBottom) and of_request:
        return SharedInference(ranker, inputs)
    if isinstance(bottom, DTRN) and bottom.interests is not None and of_request:
        return DTRNInference(ranker, inputs)
    return PlainInference(ranker, inputs)


def table_name(parameter: str) -> str:
    """Return the name of the table that a parameter of `Embeddings` holds."""
    return parameter.removesuffix(".weight").rpartition(".")[2]
