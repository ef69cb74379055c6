"""Any model, computed as in training: the request's inputs are repeated for every candidate."""

from torch import Tensor

from recsys_mtl.inference.inputs import Embedded, Inputs
from recsys_mtl.model import Ranker


class PlainInference:
    """Logits of a request's candidates."""

    def __init__(self, ranker: Ranker, inputs: Inputs) -> None:
        self.inputs, self.ranker = inputs, ranker

    def below(self, embedded: Embedded) -> Tensor:
        """Return ``x_BGR``."""
        return self.ranker.bottom(self.inputs.features(embedded))

    def above(self, x_BGR: Tensor) -> Tensor:
        """Return ``logits_BT``."""
        return self.ranker.heads(self.ranker.experts(x_BGR))
