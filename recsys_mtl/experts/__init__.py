"""Expert layers: representations to one hidden vector per task."""

from typing import Annotated

from pydantic import Field

from recsys_mtl.experts.direct import DirectConfig
from recsys_mtl.experts.home import HoMEConfig
from recsys_mtl.experts.mmoe import MMoEConfig
from recsys_mtl.experts.ple import PLEConfig

ExpertsConfig = Annotated[DirectConfig | MMoEConfig | PLEConfig | HoMEConfig, Field(discriminator="kind")]
