"""The engine: encoded values of one request to a score for every candidate and task."""

from collections.abc import Callable, Mapping
from copy import deepcopy

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
        self.logits = logits_of(ranker, self.inputs)

    @classmethod
    def of(cls, bundle: Bundle) -> "Engine":
        """Make the engine of a bundle."""
        return cls(bundle.ranker, bundle.tables, bundle.encoder.spec, bundle.manifest.tasks, bundle.calibration)

    def score(self, head: Encoded, items: Encoded) -> Tensor:
        """Return calibrated probabilities, and amounts in their natural unit (B, T)."""
        with torch.inference_mode():
            logits_BT = self.logits(self.inputs.embed(head, items))
            return predictions(logits_BT, self.tasks, self.calibration)


def logits_of(ranker: Ranker, inputs: Inputs) -> Callable[[Embedded], Tensor]:
    """Choose how the dense part is computed: split by the bottom's kind, or as in training with repeated inputs."""
    ranker = deepcopy(ranker)
    fold_batch_norms(ranker)
    bottom, of_request = ranker.bottom, not inputs.items.sequences
    if isinstance(bottom, SharedBottom) and of_request:
        return SharedInference(ranker, inputs)
    if isinstance(bottom, DTRN) and bottom.interests is not None and of_request:
        return DTRNInference(ranker, inputs)
    return lambda embedded: ranker(inputs.features(embedded))


def table_name(parameter: str) -> str:
    """Return the name of the table that a parameter of `Embeddings` holds."""
    return parameter.removesuffix(".weight").rpartition(".")[2]
