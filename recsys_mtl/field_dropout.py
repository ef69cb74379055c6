"""Field dropout: now and then a whole embedded field is missing in training."""

import torch
from torch import Tensor, nn

from recsys_mtl.config import ConfigError
from recsys_mtl.features import FeatureLayout


class FieldDropout(nn.Module):
    """Sets a field's embedding to zero in a share of the training rows, as DropoutNet does (Volkovs et al., NIPS 2017).

    It keeps the model from leaning on an id whose vector is mostly memory, such as the user's on data with few rows per
    user: what the other fields know is learnt from the rows without it. The rows that keep the field have it scaled up,
    so that its expectation stays.
    """

    probability_F: Tensor
    field_X: Tensor

    def __init__(self, shares: dict[str, float], layout: FeatureLayout) -> None:
        """``shares`` gives the share of rows by field.

        Raises:
            ConfigError: a field that the layout does not have.
        """
        super().__init__()
        names = [field.name for field in layout.fields]
        if unknown := [name for name in shares if name not in names]:
            raise ConfigError(
                f"model.field_dropout.{name}: no such field; there are {', '.join(names)}" for name in unknown
            )
        probabilities = torch.tensor([shares.get(name, 0.0) for name in names])
        owners = torch.repeat_interleave(torch.tensor([field.dim for field in layout.fields], dtype=torch.int64))
        self.register_buffer("probability_F", probabilities, persistent=False)
        self.register_buffer("field_X", owners, persistent=False)

    def forward(self, fields_BX: Tensor) -> Tensor:
        """Return the fields, some of them zero in training."""
        if not self.training or not self.probability_F.any():
            return fields_BX
        draws_BF = torch.rand(fields_BX.shape[0], len(self.probability_F), device=fields_BX.device)
        scale_BF = (draws_BF >= self.probability_F) / (1 - self.probability_F)
        return fields_BX * scale_BF.index_select(1, self.field_X)

    def __call__(self, fields_BX: Tensor) -> Tensor:
        return super().__call__(fields_BX)  # type: ignore[no-any-return]
