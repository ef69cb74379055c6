"""Fusion: one score out of several objectives, by a formula that never falls when an objective rises."""

from recsys_mtl.fusion.base import FormulaBase, FusionName, NotFinite
from recsys_mtl.fusion.expression import Expression
from recsys_mtl.fusion.formulas import DEFAULT, Formula, Fusions, default_fusions, fuse
from recsys_mtl.fusion.products import Factor, PowerProduct, Product
from recsys_mtl.fusion.ranks import RankWeight, WeightedRanks
from recsys_mtl.fusion.sums import ClickTimesSum, WeightedSum

__all__ = [
    "DEFAULT",
    "ClickTimesSum",
    "Expression",
    "Factor",
    "Formula",
    "FormulaBase",
    "FusionName",
    "Fusions",
    "NotFinite",
    "PowerProduct",
    "Product",
    "RankWeight",
    "WeightedRanks",
    "WeightedSum",
    "default_fusions",
    "fuse",
]
