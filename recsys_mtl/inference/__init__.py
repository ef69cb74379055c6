"""Inference: a bundle's answer to one request, faster than the modules that it was trained with and equal to them.

What belongs to the request (user, context, histories) is computed once and meets the candidates where they differ.
"""

from recsys_mtl.inference.cells import CellEncoder
from recsys_mtl.inference.encoded import Encoded, Side
from recsys_mtl.inference.engine import Engine

__all__ = ["CellEncoder", "Encoded", "Engine", "Side"]
