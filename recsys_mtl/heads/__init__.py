"""Heads: hidden vectors to logits."""

from typing import Annotated

from pydantic import Field

from recsys_mtl.heads.aitm import AITMConfig
from recsys_mtl.heads.esmm import ESMMConfig
from recsys_mtl.heads.towers import TowersConfig

HeadsConfig = Annotated[TowersConfig | ESMMConfig | AITMConfig, Field(discriminator="kind")]
