"""Written formulas: grammar, values, and what is taken as never falling."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recsys_mtl.fusion import Expression, NotFinite, fuse
from recsys_mtl.fusion.expression import LONGEST, ExpressionError, parse
from recsys_mtl.fusion.expression.evaluation import evaluate
from recsys_mtl.fusion.expression.parser import DEEPEST, MOST_PARTS
from recsys_mtl.fusion.expression.tree import Binary, Call, Negative, Node, Number, Objective, text
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task

TASKS: tuple[Task, ...] = (
    BinaryTask(name="click"),
    BinaryTask(name="like"),
    RegressionTask(name="watch", upper=600),
    RegressionTask(name="spent"),
)
NAMES = tuple(task.name for task in TASKS)
TOP = {"click": 1.0, "like": 1.0, "watch": 600.0, "spent": 1e6}

values = st.floats(0, 1e9) | st.sampled_from([0.0, 0.5, 1.0, 2.0, 30.0])
leaves = st.builds(Number, values) | st.builds(Objective, st.sampled_from(NAMES))


def grown(parts: st.SearchStrategy[Node], *, with_functions: bool) -> st.SearchStrategy[Node]:
    operators = "+-*/^" if with_functions else "+-*/"
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    found: st.SearchStrategy[Node] = st.builds(Negative, parts)
    found |= st.builds(Binary, st.sampled_from(operators), parts, parts)
    found |= st.builds(Call, st.sampled_from(["min", "max"]), several)
    return found | st.builds(Call, st.sampled_from(["log", "exp"]), st.tuples(parts)) if with_functions else found


trees = st.recursive(leaves, lambda parts: grown(parts, with_functions=True), max_leaves=12)
arithmetic = st.recursive(leaves, lambda parts: grown(parts, with_functions=False), max_leaves=12)
points = st.fixed_dictionaries({name: st.floats(0, top) for name, top in TOP.items()})


@given(trees)
def test_what_is_printed_reads_as_the_same_tree(tree: Node) -> None:
    written = text(tree)
    assume(len(written) <= LONGEST)
    assert parse(written) == tree


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("1 + 2 * 3 ^ 2", "1 + (2 * (3 ^ 2))"),
        ("1 - 2 - 3", "(1 - 2) - 3"),
        ("8 / 4 / 2", "(8 / 4) / 2"),
        ("2 ^ 3 ^ 2", "2 ^ (3 ^ 2)"),
        ("-2 ^ 2", "-(2 ^ 2)"),
        ("-2 * 3", "(-2) * 3"),
        ("2 ^ -1", "2 ^ (-1)"),
        ("2 * -3 + 4", "(2 * (-3)) + 4"),
        ("--click", "-(-click)"),
        (" click*(1+4*like)\n", "click * (1 + (4 * like))"),
        ("1.5e-3 + .5 + 2.", "(0.0015 + 0.5) + 2"),
        ("min(click,like , 1)", "min((click), (like), (1))"),
        ("exp + log(max)", "(exp) + log((max))"),
    ],
)
def test_operators_bind_as_in_mathematics(written: str, full: str) -> None:
    assert parse(written) == parse(full)


def python_value(node: Node, point: dict[str, float]) -> float:
    """Evaluate with Python's own floats; a division that Python refuses gives what IEEE 754 says."""
    match node:
        case Number(value):
            return value
        case Objective(name):
            return point[name]
        case Negative(operand):
            return -python_value(operand, point)
        case Call("min" | "max" as function, arguments):
            found = [python_value(argument, point) for argument in arguments]
            return math.nan if any(map(math.isnan, found)) else {"min": min, "max": max}[function](found)
        case Binary(operator, left, right):
            a, b = python_value(left, point), python_value(right, point)
            operations: dict[str, Callable[[], float]] = {
                "+": lambda: a + b,
                "-": lambda: a - b,
                "*": lambda: a * b,
                "/": lambda: a / b if b else float(np.divide(a, np.float64(b))),
            }
            return operations[operator]()
        case _:
            raise AssertionError(node)


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@given(arithmetic, points)
def test_values_are_those_of_floats(tree: Node, point: dict[str, float]) -> None:
    (value,) = np.broadcast_to(evaluate(tree, {name: np.array([x]) for name, x in point.items()}), 1)
    expected = python_value(tree, point)
    assert value == expected or (math.isnan(value) and math.isnan(expected))


@given(st.floats(1e-300, 1e6), st.floats(-20, 20))
def test_functions_are_those_of_the_library(x: float, y: float) -> None:
    def value(written: str) -> float:
        return float(evaluate(parse(written), {"click": np.array([x]), "like": np.array([y])})[0])

    assert value("log(click)") == pytest.approx(math.log(x), rel=1e-14)
    assert value("exp(like)") == pytest.approx(math.exp(y), rel=1e-14)
    assert value("click ^ 0.25") == pytest.approx(x**0.25, rel=1e-14)
    assert value("exp(like) ^ like") == pytest.approx(math.exp(y) ** y, rel=1e-12)


def test_many_candidates_are_scored_at_once() -> None:
    scores_BT = torch.rand(50, 4) * torch.tensor([1, 1, 600, 2e6])
    fused_B = fuse(Expression(text="click*(1 + 4*like) + log(1 + spent)"), scores_BT, NAMES)
    click_B, like_B, _, spent_B = scores_BT.double().T
    torch.testing.assert_close(fused_B, click_B * (1 + 4 * like_B) + spent_B.clamp(max=1e6).log1p())


def test_one_objective_alone_is_a_copy_of_its_scores() -> None:
    scores_BT = torch.rand(3, 1, dtype=torch.float64)
    before_B = scores_BT[:, 0].clone()
    fuse(Expression(text="click"), scores_BT, ("click",)).zero_()
    assert scores_BT[:, 0].equal(before_B)


@pytest.mark.parametrize("amount", [-5.0, 0.0])
def test_amounts_below_zero_count_as_zero(amount: float) -> None:
    assert fuse(Expression(text="spent + 1"), torch.tensor([[amount]]), ("spent",)).item() == 1.0


def test_a_value_that_is_not_finite_names_its_candidate() -> None:
    with pytest.raises(NotFinite) as error:
        fuse(Expression(text="log(click)"), torch.tensor([[0.5], [0.1], [0.0]]), ("click",))
    assert error.value.row == 2


def problems(written: str) -> list[str]:
    return list(Expression(text=written).problems(TASKS))


@pytest.mark.parametrize(
    "written",
    [
        "click * (1 + 4*like) + 0.01*log(1+watch)",
        "click",
        "log(click)",
        "log(1e-6 + click) + 0.5*log(1e-6 + like)",
        "click^0.3 * (0.1 + watch)^2",
        "1 - exp(-watch/30)",
        "watch / (watch + 30)",
        "watch / (30 + watch)",
        "1 - 30/(30 + watch)",
        "min(watch, 60) / 60 + click",
        "max(click, 0.1)",
        "2^click",
        "1/(1.01 - click)",
        "1 - (1-click)*(1-like)",
        "click*(2-click)",
        "exp(min(spent, 5))",
        "-min(-click, -like)",
        "min(3 - click, 1) + like",
    ],
)
def test_formulas_that_never_fall_are_taken(written: str) -> None:
    assert problems(written) == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1 - click", ["cannot show that the score does not fall when click rises"]),
        ("click - like - watch", [f"cannot show that the score does not fall when {t} rises" for t in NAMES[1:3]]),
        ("exp(-click)", ["cannot show that the score does not fall when click rises"]),
        ("click^2 - click", ["cannot show that the score does not fall when click rises"]),
        ("min(click, 1 - like)", ["cannot show that the score does not fall when like rises"]),
        ("like / click", ["cannot show that click is never 0"]),
        ("min(5, 1/(0.5 - max(click, 0.5)))", ["cannot show that 0.5 - max(click, 0.5) is never 0"]),
        ("-1/(click - 0.5)", ["cannot show that click - 0.5 is never 0"]),
        ("(click - 0.5)^3", ["cannot show that the base of (click - 0.5) ^ 3.0 is above 0"]),
        ("click^like", ["cannot show that the base of click ^ like is above 0"]),
        ("click^-1", ["cannot show that the base of click ^ (-1.0) is above 0"]),
        ("log(click - 1)", ["cannot show that log(click - 1.0) is never that of a number below 0"]),
        ("0*click", ["it rises with no task, so all candidates tie"]),
        ("min(click, -1)", ["it rises with no task, so all candidates tie"]),
        ("1/(1e200*(1 + click))", ["cannot show that the score does not fall when click rises"]),
        ("exp(800)^2*0 - 1e-320*click*1e-320", ["cannot show that the score does not fall when click rises"]),
        ("clik + 2*lke + clik", [f"at character {n}: no task {t!r} in the model; it has {', '.join(NAMES)}"
                                 for n, t in ((1, "clik"), (10, "lke"))]),
    ],
)  # fmt: skip
def test_formulas_that_may_fall_are_refused(written: str, expected: list[str]) -> None:
    assert problems(written) == expected


@settings(max_examples=400)
@given(trees, points, st.sampled_from(NAMES), st.floats(0, 1))
def test_what_is_taken_never_falls(tree: Node, point: dict[str, float], name: str, way: float) -> None:
    written = text(tree)
    assume(len(written) <= LONGEST)
    try:
        formula = Expression(text=written)
    except ValueError:
        return
    if list(formula.problems(TASKS)):
        return
    better = {**point, name: point[name] + way * (TOP[name] - point[name])}
    scores_BT = torch.tensor([[one[name] for name in NAMES] for one in (point, better)], dtype=torch.float64)
    try:
        before, after = fuse(formula, scores_BT, NAMES).tolist()
    except NotFinite:
        return
    # Rounding is relative to the largest part, which may be far larger than the sum.
    assert after >= before - 1e-9 * max(1.0, abs(before), _largest(tree, scores_BT))


def _largest(node: Node, scores_BT: torch.Tensor) -> float:
    scores = dict(zip(NAMES, scores_BT.T.numpy(), strict=True))
    parts = [node]
    largest = 0.0
    while parts:
        part = parts.pop()
        found = np.abs(evaluate(part, scores))
        largest = max(largest, float(found[np.isfinite(found)].max(initial=0)) if found.ndim else float(found))
        match part:
            case Negative(operand):
                parts.append(operand)
            case Binary(_, left, right):
                parts += [left, right]
            case Call(_, arguments):
                parts += arguments
    return largest


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "at character 1: expected a task, a number, a function or '(', found the end"),
        ("click +", "at character 8: expected a task, a number, a function or '(', found the end"),
        ("click like", "at character 7: expected an operator or the end, found 'like'"),
        ("(click", "at character 7: expected an operator or ')', found the end"),
        ("click)", "at character 6: expected an operator or the end, found ')'"),
        ("click ** 2", "at character 8: expected a task, a number, a function or '(', found '*'"),
        ("+click", "at character 1: expected a task, a number, a function or '(', found '+'"),
        ("max(click)", "at character 1: max takes two arguments or more, not 1"),
        ("1 + log(click, 2)", "at character 5: log takes one argument, not 2"),
        ("min(click like)", "at character 11: expected an operator, ',' or ')', found 'like'"),
        ("sqrt(click)", "at character 1: there is no function 'sqrt'; there are log, exp, min, max"),
        ("click > 1", "at character 7: '>' is not allowed; an expression has task names, numbers, + - * / ^, "),
        ("__import__('os')", "at character 1: '_' is not allowed"),
        ("click.real", "at character 6: '.' is not allowed"),
        ("1e999", "at character 1: the number is too large"),
        ("１ + click", "at character 1: '１' is not allowed"),  # a digit, but not of ours
        ("x" * (LONGEST + 1), f"{LONGEST + 1} characters are too many; up to {LONGEST} are allowed"),
        ("(" * DEEPEST + "1" + ")" * DEEPEST, f"at character {DEEPEST + 1}: more than {DEEPEST} parts inside each"),
        ("-" * DEEPEST + "1", f"more than {DEEPEST} parts inside each other"),
        ("+".join("1" * (MOST_PARTS // 2 + 1)), f"more than {MOST_PARTS} names, numbers and operations"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_position(written: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        parse(written)
    assert message in str(error.value)


garbage = st.text(max_size=60) | st.text(alphabet="click like09.e+-*/^(),minaxlogp \n", max_size=200)
garbage |= st.lists(
    st.sampled_from(["click", "2", "1e3", "(", ")", "+", "-", "*", "/", "^", ",", "log", "min(", "exp("]), max_size=60
).map(" ".join)


@settings(max_examples=500)
@given(garbage)
def test_garbage_is_refused_or_scored(written: str) -> None:
    try:
        parse(written)
    except ExpressionError:
        return
    try:
        formula = Expression(text=written)
    except ValueError as error:
        assert "at least one task must count" in str(error)  # noqa: PT017
        return
    found: Any = list(formula.problems(TASKS))
    assert all(isinstance(problem, str) for problem in found)


@pytest.mark.parametrize("chain", ["click" + "+1" * 99, "click" + "*2" * 99, "-(" * 19 + "click" + ")" * 19])
def test_the_largest_expressions_are_within_the_stack(chain: str) -> None:
    formula = Expression(text=chain)
    list(formula.problems(TASKS))
    assert text(formula.tree)
    assert len(fuse(formula, torch.rand(3, 4), NAMES)) == 3


def test_quotients_within_quotients_take_no_longer_than_they_are() -> None:
    assert problems("click/(0.1 + click + " * 12 + "like" + ")" * 12)


def test_expressions_are_read_once() -> None:
    before = parse.cache_info()
    assert parse("click + 0.123456") is parse("click + 0.123456")
    assert parse.cache_info().hits > before.hits
    assert before.maxsize is not None
