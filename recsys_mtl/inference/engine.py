"""The engine: encoded values of one request to a score for every candidate and task."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from recsys_mtl.bottoms.shared import SharedBottom
from recsys_mtl.bundle import Bundle
from recsys_mtl.calibration import Calibration, predictions
from recsys_mtl.data.spec import Spec
from recsys_mtl.embeddings import Embeddings
from recsys_mtl.inference.encoded import Encoded
from recsys_mtl.inference.inputs import Embedded, Inputs
from recsys_mtl.inference.shared import SharedInference
from recsys_mtl.inference.tables import FusedTables
from recsys_mtl.model import Ranker, RankingModel
from recsys_mtl.tasks import Task


class Engine:
    """Scores requests with a model in evaluation mode. Calls from several threads do not disturb each other."""

    def __init__(
        self, model: RankingModel, spec: Spec, tasks: tuple[Task, ...], calibration: Calibration | None = None
    ) -> None:
        self.tasks, self.calibration = tasks, calibration
        self.inputs = Inputs(spec, FusedTables(tables_of(model.embeddings)))
        self.logits = logits_of(model.ranker, self.inputs)

    @classmethod
    def of(cls, bundle: Bundle) -> "Engine":
        """Make the engine of a bundle."""
        return cls(bundle.model, bundle.encoder.spec, bundle.manifest.tasks, bundle.calibration)

    def score(self, head: Encoded, items: Encoded) -> Tensor:
        """Return calibrated probabilities, and amounts in their natural unit (B, T)."""
        with torch.inference_mode():
            logits_BT = self.logits(self.inputs.embed(head, items))
            return predictions(logits_BT, self.tasks, self.calibration)


def logits_of(ranker: Ranker, inputs: Inputs) -> Callable[[Embedded], Tensor]:
    """Choose how the dense part is computed: split by the bottom's kind, or as in training with repeated inputs."""
    if isinstance(ranker.bottom, SharedBottom) and not inputs.items.sequences:
        return SharedInference(deepcopy(ranker), inputs)
    return lambda embedded: ranker(inputs.features(embedded))


def tables_of(embeddings: Embeddings) -> dict[str, Tensor]:
    """Return every table (N, D) by its name."""
    collections = [embeddings.pooled, *embeddings.events.values()]
    return {
        name.removesuffix(".weight").rpartition(".")[2]: weight.detach()
        for collection in collections
        if collection is not None
        for name, weight in collection.named_parameters()
    }
