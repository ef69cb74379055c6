"""Formulas that are written down: ``is_click * (1 + 4*is_like) + 0.01*log(1 + watch_time)``.

The grammar knows names of tasks, numbers, ``+ - * / ^``, parentheses, ``log``, ``exp``, ``min`` and ``max``, and
nothing else: text is never run as a program.
"""

from recsys_mtl.fusion.expression.formula import Expression
from recsys_mtl.fusion.expression.parser import LONGEST, parse
from recsys_mtl.fusion.expression.tokens import ExpressionError

__all__ = ["LONGEST", "Expression", "ExpressionError", "parse"]
