"""What an expression gives for many candidates at once."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from recsys_mtl.fusion.expression.tree import Binary, Call, Function, Negative, Node, Number, Objective, Operator

Floats = npt.NDArray[np.float64]
OPERATIONS: dict[Operator, np.ufunc] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power
}  # fmt: skip
FUNCTIONS: dict[Function, np.ufunc] = {"log": np.log, "exp": np.exp, "min": np.minimum, "max": np.maximum}


def evaluate(node: Node, scores: Mapping[str, Floats]) -> Floats:
    """Return the expression's value for every candidate, from each task's scores (B,).

    What is not defined, such as the logarithm of 0 or a division by it, is infinite or NaN, as in IEEE 754.
    """
    with np.errstate(all="ignore"):
        return _value(node, scores)


def _value(node: Node, scores: Mapping[str, Floats]) -> Floats:
    value: Floats
    match node:
        case Number(constant):
            value = np.asarray(constant)
        case Objective(name):
            value = scores[name]
        case Negative(operand):
            value = np.negative(_value(operand, scores))
        case Binary(operator, left, right):
            value = OPERATIONS[operator](_value(left, scores), _value(right, scores))
        case Call(function, arguments):
            first, *others = (_value(argument, scores) for argument in arguments)
            value = FUNCTIONS[function](first, *others[:1])
            for other in others[1:]:
                value = FUNCTIONS[function](value, other)
    return value
