"""Bottoms: features to the representations that experts read."""

from typing import Annotated

from pydantic import Field

from recsys_mtl.bottoms.apem import APEMConfig
from recsys_mtl.bottoms.dtrn import DTRNConfig
from recsys_mtl.bottoms.shared import SharedConfig

BottomConfig = Annotated[SharedConfig | DTRNConfig | APEMConfig, Field(discriminator="kind")]
