"""Bottoms: features to the representations that experts read."""

from recsys_mtl.bottoms.shared import SharedConfig

BottomConfig = SharedConfig
