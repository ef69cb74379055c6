import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.fusion import (
    DEFAULT,
    ClickTimesSum,
    Expression,
    Factor,
    Formula,
    Fusions,
    PowerProduct,
    Product,
    RankWeight,
    WeightedRanks,
    WeightedSum,
    default_fusions,
    fuse,
)
from recsys_mtl.tasks import BinaryTask, RegressionTask

TASKS = ("click", "like", "watch")
CLICK, LIKE, WATCH = BinaryTask(name="click"), BinaryTask(name="like"), RegressionTask(name="watch")
SUM = WeightedSum(weights={"click": 1.0, "like": 12.0})
PRODUCT = Product(factors={"like": Factor(scale=50.0, power=2.0), "watch": Factor(scale=0.1, power=0.5)})

scores = st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2, st.floats(0, 1e5, width=32)), min_size=1, max_size=8)
factors = st.builds(Factor, scale=st.floats(0.01, 100), power=st.floats(0.01, 4))
ranks = st.builds(RankWeight, weight=st.floats(0.01, 100), power=st.floats(0.01, 4), shift=st.floats(0, 50))


def by_task(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(TASKS), values, min_size=1)


formulas: st.SearchStrategy[Formula] = st.one_of(
    st.builds(WeightedSum, weights=by_task(st.floats(0.01, 100))),
    st.builds(ClickTimesSum, click=st.sampled_from(TASKS), weights=by_task(st.floats(0.01, 100))),
    st.builds(Product, factors=by_task(factors)),
    st.builds(PowerProduct, powers=by_task(st.floats(0.01, 4))),
    st.builds(WeightedRanks, ranks=by_task(ranks)),
    st.just(Expression(text="click * (1 + 4*like) + 0.01*log(1 + watch)")),
)


def by_hand(formula: Formula, rows: list[tuple[float, ...]], row: tuple[float, ...]) -> float:
    by_task = dict(zip(TASKS, row, strict=True))
    match formula:
        case WeightedSum():
            return sum(weight * by_task[task] for task, weight in formula.weights.items())
        case ClickTimesSum():
            others = sum(weight * by_task[task] for task, weight in formula.weights.items())
            return by_task[formula.click] * (1 + others)
        case Product():
            return math.prod(float((1 + f.scale * by_task[task]) ** f.power) for task, f in formula.factors.items())
        case PowerProduct():
            return math.prod(math.pow(max(by_task[task], 1e-9), power) for task, power in formula.powers.items())
        case WeightedRanks():
            total = 0.0
            for task, rank in formula.ranks.items():
                column = [other[TASKS.index(task)] for other in rows]
                better, ties = sum(x > by_task[task] for x in column), column.count(by_task[task])
                place = better + (ties + 1) / 2
                total += rank.weight / (math.pow(place, rank.power) + rank.shift)
            return total
        case Expression():
            return by_task["click"] * (1 + 4 * by_task["like"]) + 0.01 * math.log(1 + by_task["watch"])


@given(formulas, scores)
def test_formulas_equal_their_definition(formula: Formula, rows: list[tuple[float, ...]]) -> None:
    fused_B = fuse(formula, torch.tensor(rows), TASKS)
    assert fused_B.dtype == torch.float64
    assert fused_B.tolist() == pytest.approx([by_hand(formula, rows, row) for row in rows], rel=1e-9, abs=1e-300)


@given(formulas, scores, st.sampled_from(range(3)), st.floats(0, 1, width=32))
def test_a_better_objective_never_lowers_the_score(
    formula: Formula, rows: list[tuple[float, ...]], task: int, gain: float
) -> None:
    scores_BT = torch.tensor(rows)
    last_digit = 1 - 1e-14
    fused_B = fuse(formula, scores_BT, TASKS)
    for row in range(len(rows)):  # one candidate at a time: ranks are those among the others as they were
        better_BT = scores_BT.clone()
        better_BT[row, task] += gain
        assert fuse(formula, better_BT, TASKS)[row] >= fused_B[row] * last_digit


def test_ties_share_their_mean_rank() -> None:
    formula = WeightedRanks(ranks={"click": RankWeight(weight=12.0)})
    fused_B = fuse(formula, torch.tensor([[0.5], [0.9], [0.5], [0.1]]), ("click",))
    assert fused_B.tolist() == pytest.approx([12 / 2.5, 12 / 1, 12 / 2.5, 12 / 4])


def test_ranks_do_not_depend_on_scale() -> None:
    formula = WeightedRanks(ranks={"click": RankWeight(power=0.7, shift=3), "watch": RankWeight(weight=2)})
    scores_BT = torch.rand(30, 3)
    assert fuse(formula, scores_BT, TASKS).equal(fuse(formula, scores_BT.pow(3) * 1e-6, TASKS))


def test_a_zero_has_no_veto_in_a_power_product() -> None:
    formula = PowerProduct(powers={"click": 1.0, "like": 0.5})
    fused_B = fuse(formula, torch.tensor([[0.9, 0.0], [0.1, 0.0]]), ("click", "like"))
    assert fused_B.tolist() == pytest.approx([0.9 * 1e-9**0.5, 0.1 * 1e-9**0.5])


@pytest.mark.parametrize(
    "formula",
    [
        SUM,
        PRODUCT,
        ClickTimesSum(click="click", weights={"like": 3.0}),
        PowerProduct(powers={"like": 2.0}),
        WeightedRanks(ranks={"like": RankWeight()}),
        Expression(text="like^2 + watch"),
    ],
)
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
        ClickTimesSum(click="click", weights={"watch": 1.7e308, "like": 1.7e308}),
        ClickTimesSum(click="watch", weights={"watch": 1.7e308}),
        PowerProduct(powers={"watch": 100.0, "click": 100.0, "like": 100.0}),
        WeightedRanks(ranks={"watch": RankWeight(weight=1.7e308, power=10)}),
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
        fusions.check((CLICK, WATCH), where="fusion.yaml: ")
    assert error.value.problems == (
        "fusion.yaml: formulas.default: no task 'like' in the model; it has click, watch",
        "fusion.yaml: formulas.long: no task 'like' in the model; it has click, watch",
    )
    fusions.check((CLICK, LIKE, WATCH))


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
        (wrong({"kind": "click_times_sum", "weights": {"like": 1}}), "formulas.default.click: "),
        (wrong({"kind": "click_times_sum", "click": "click", "weights": {"like": -1}}), "default.weights.like: "),
        (wrong({"kind": "power_product", "powers": {"click": 101}}), "formulas.default.powers.click: "),
        (wrong({"kind": "power_product", "powers": {"click": 0}}), "at least one task must count"),
        (wrong({"kind": "rank", "ranks": {"click": {"power": -1}}}), "formulas.default.ranks.click.power: "),
        (wrong({"kind": "rank", "ranks": {"click": {"power": 0}}}), "at least one task must count"),
        (wrong({"kind": "expression", "text": "click +"}), "formulas.default.text: at character 8: "),
        (wrong({"kind": "expression", "text": "1"}), "at least one task must count"),
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
    formulas: dict[str, Formula] = {"a": SUM, "b": PRODUCT, "c": Expression(text="click^0.5")}
    formulas |= {"d": WeightedRanks(ranks={"like": RankWeight(shift=2)}), "e": PowerProduct(powers={"click": 2})}
    fusions = Fusions(formulas=formulas, default="b")
    assert validate(Fusions, fusions.model_dump(mode="json")) == fusions


def test_the_default_counts_events_and_leaves_amounts_out() -> None:
    fusions = default_fusions((BinaryTask(name="click"), RegressionTask(name="watch"), BinaryTask(name="like")))
    formula = fusions.formulas[fusions.default]
    assert fusions.default == DEFAULT
    assert fuse(formula, torch.tensor([[0.5, 99.0, 0.25]]), ("click", "watch", "like")).item() == pytest.approx(0.75)


def test_the_default_of_a_model_of_amounts_counts_those() -> None:
    formula = default_fusions((RegressionTask(name="watch"),)).formulas[DEFAULT]
    assert fuse(formula, torch.tensor([[7.0]]), ("watch",)).item() == 7.0


def test_the_documented_formulas_are_formulas() -> None:
    text = (Path(__file__).parents[3] / "docs/serving.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "formulas:" in block]
    fusions = validate(Fusions, yaml.safe_load(example))
    fusions.check((BinaryTask(name="is_click"), BinaryTask(name="is_like"), RegressionTask(name="watch_time")))
    kinds = {formula.kind for formula in fusions.formulas.values()}
    assert kinds == {"weighted_sum", "click_times_sum", "product", "power_product", "rank", "expression"}
