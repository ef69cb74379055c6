"""Heads: hidden vectors to logits."""

from recsys_mtl.heads.towers import TowersConfig

HeadsConfig = TowersConfig
