import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.fusion import DEFAULT, Factor, Formula, Fusions, Product, WeightedSum, default_fusions, fuse
from recsys_mtl.tasks import BinaryTask, RegressionTask

TASKS = ("click", "like", "watch")
SUM = WeightedSum(weights={"click": 1.0, "like": 12.0})
PRODUCT = Product(factors={"like": Factor(scale=50.0, power=2.0), "watch": Factor(scale=0.1, power=0.5)})

scores = st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2, st.floats(0, 1e5, width=32)), min_size=1, max_size=8)
factors = st.builds(Factor, scale=st.floats(0.01, 100), power=st.floats(0.01, 4))
formulas: st.SearchStrategy[Formula] = st.one_of(
    st.builds(WeightedSum, weights=st.dictionaries(st.sampled_from(TASKS), st.floats(0.01, 100), min_size=1)),
    st.builds(Product, factors=st.dictionaries(st.sampled_from(TASKS), factors, min_size=1)),
)


def by_hand(formula: Formula, row: tuple[float, ...]) -> float:
    by_task = dict(zip(TASKS, row, strict=True))
    if isinstance(formula, WeightedSum):
        return sum(weight * by_task[task] for task, weight in formula.weights.items())
    return math.prod(float((1 + f.scale * by_task[task]) ** f.power) for task, f in formula.factors.items())


@given(formulas, scores)
def test_formulas_equal_their_definition(formula: Formula, rows: list[tuple[float, ...]]) -> None:
    fused_B = fuse(formula, torch.tensor(rows), TASKS)
    assert fused_B.tolist() == pytest.approx([by_hand(formula, row) for row in rows], rel=1e-9)


@given(formulas, scores, st.sampled_from(range(3)), st.floats(0, 1, width=32))
def test_a_better_objective_never_lowers_the_score(
    formula: Formula, rows: list[tuple[float, ...]], task: int, gain: float
) -> None:
    scores_BT = torch.tensor(rows)
    better_BT = scores_BT.clone()
    better_BT[:, task] += gain
    last_digit = 1 - 1e-14
    assert (fuse(formula, better_BT, TASKS) >= fuse(formula, scores_BT, TASKS) * last_digit).all()


@pytest.mark.parametrize("formula", [SUM, PRODUCT])
def test_columns_are_taken_by_name(formula: Formula) -> None:
    scores_BT = torch.rand(5, 3)
    order = [2, 0, 1]
    permuted_B = fuse(formula, scores_BT[:, order], [TASKS[i] for i in order])
    assert torch.allclose(permuted_B, fuse(formula, scores_BT, TASKS))


@pytest.mark.parametrize("amount", [-3.0, 0.0])
def test_a_product_counts_amounts_below_zero_as_zero(amount: float) -> None:
    assert fuse(PRODUCT, torch.tensor([[0.5, 0.0, amount]]), TASKS).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "formula",
    [
        Product(factors={"watch": Factor(scale=1e300, power=1e3)}),
        WeightedSum(weights={"watch": 1.7e308, "click": 1e308}),
    ],
)
def test_scores_stay_finite_whatever_the_numbers(formula: Formula) -> None:
    fused_B = fuse(formula, torch.tensor([[1.0, 0.5, 3e38], [0.0, 0.0, 0.0]]), TASKS)
    assert fused_B.isfinite().all()
    assert fused_B[0] > fused_B[1]


def test_a_formula_over_other_objectives_is_refused() -> None:
    with pytest.raises(ValueError, match="no task 'like' among the scores; they are click, watch"):
        fuse(SUM, torch.rand(2, 2), ("click", "watch"))


def test_check_names_every_formula_and_task_that_does_not_fit() -> None:
    fusions = Fusions(formulas={"default": SUM, "long": PRODUCT, "clicks": WeightedSum(weights={"click": 1})})
    with pytest.raises(ConfigError) as error:
        fusions.check(("click", "watch"), where="fusion.yaml: ")
    assert error.value.problems == (
        "fusion.yaml: formulas.default: no task 'like' in the model; it has click, watch",
        "fusion.yaml: formulas.long: no task 'like' in the model; it has click, watch",
    )
    fusions.check(TASKS)


def wrong(formula: dict[str, Any]) -> dict[str, Any]:
    return {"formulas": {"default": formula}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (wrong({"kind": "weighted_sum", "weights": {"click": -1}}), "formulas.default.weights.click: "),
        (wrong({"kind": "weighted_sum", "weights": {"click": math.nan}}), "formulas.default.weights.click: "),
        (wrong({"kind": "weighted_sum", "weights": {"click": math.inf}}), "formulas.default.weights.click: "),
        (wrong({"kind": "weighted_sum", "weights": {}}), "formulas.default.weights: "),
        (wrong({"kind": "weighted_sum", "weights": {"click": 0}}), "at least one task must count"),
        (wrong({"kind": "product", "factors": {"click": {"scale": -1}}}), "formulas.default.factors.click.scale: "),
        (wrong({"kind": "product", "factors": {"click": {"power": 0}}}), "at least one task must count"),
        (wrong({"kind": "product", "factors": {"click": {"pwer": 2}}}), "factors.click.pwer: unknown field"),
        (wrong({"kind": "median"}), "formulas.default"),
        ({"formulas": {}}, "formulas: "),
        ({"formulas": {"a": SUM.model_dump()}, "default": "b"}, "no formula 'b'; there are a"),
        ({"formulas": {"default": SUM.model_dump() | {"version": 0}}}, "formulas.default.version: "),
    ],
)
def test_wrong_formulas_are_refused_with_their_path(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(Fusions, tree)
    assert message in str(error.value)


def test_fusions_survive_a_round_trip() -> None:
    fusions = Fusions(formulas={"a": SUM, "b": PRODUCT}, default="b")
    assert validate(Fusions, fusions.model_dump(mode="json")) == fusions


def test_the_default_counts_events_and_leaves_amounts_out() -> None:
    fusions = default_fusions((BinaryTask(name="click"), RegressionTask(name="watch"), BinaryTask(name="like")))
    formula = fusions.formulas[fusions.default]
    assert fusions.default == DEFAULT
    assert fuse(formula, torch.tensor([[0.5, 99.0, 0.25]]), ("click", "watch", "like")).item() == pytest.approx(0.75)


def test_the_default_of_a_model_of_amounts_counts_those() -> None:
    formula = default_fusions((RegressionTask(name="watch"),)).formulas[DEFAULT]
    assert fuse(formula, torch.tensor([[7.0]]), ("watch",)).item() == 7.0
