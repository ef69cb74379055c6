"""Formulas that come with a request, and explanations of scores."""

import math
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from torch import Tensor

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.batch import BatchLayout, collate
from recsys_mtl.fusion import Expression, Formula, Fusions, RankWeight, WeightedRanks, WeightedSum
from recsys_mtl.layers import Gate, SelfGate
from serving.errors import RequestError
from serving.formulas import AskedFormula, Formulas
from serving.scorer import Scorer
from tests import builders
from tests.serving.world import Json, answered, one_user, problems_of, request_of, scores_of

FORMULA = "click * (1 + 4*like) + 0.01*log(1 + watch)"
BODY = request_of(one_user(12))


def fused_of(answer: Json) -> Tensor:
    return torch.tensor([row["score"] for row in answer["candidates"]], dtype=torch.float64)


@pytest.mark.parametrize("fusion", [FORMULA, {"expression": FORMULA}])
@pytest.mark.parametrize("extra", [{}, {"unknown": True}], ids=["fast", "careful"])
def test_a_formula_can_come_with_the_request(client: TestClient, fusion: Any, extra: Json) -> None:
    body = BODY | {"fusion": fusion}
    if extra:  # a cell of another type than its feature's is read the careful way
        body |= {"context": {**BODY["context"], "hour": str(BODY["context"]["hour"])}}
    answer = answered(client, "/v1/rank", body)
    click_B, like_B, watch_B = scores_of(answer).double().T
    torch.testing.assert_close(fused_of(answer), click_B * (1 + 4 * like_B) + 0.01 * watch_B.log1p(), rtol=1e-6, atol=0)
    assert answer["fusion"] == {"expression": FORMULA}
    assert fused_of(answer).equal(fused_of(answer).sort(descending=True).values)


def test_an_object_is_a_formula_even_where_it_could_be_a_name(client: TestClient) -> None:
    answer = answered(client, "/v1/rank", BODY | {"fusion": {"expression": "like"}})
    assert fused_of(answer).tolist() == pytest.approx(scores_of(answer)[:, 1].tolist())
    problem = ("fusion", "fusion: no formula of this name; the model has default")
    assert problems_of(client, BODY | {"fusion": "like"}) == [problem]


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        ({"expression": "click +"}, ("fusion.expression", "at character 8: expected a task, a number, a function or")),
        ("click + ", ("fusion", "at character 9: expected a task, a number, a function or '(', found the end")),
        ("click + lke", ("fusion", "at character 9: no task 'lke' in the model; it has click, like, watch")),
        ("1 - click", ("fusion", "cannot show that the score does not fall when click rises")),
        ({"expression": "42"}, ("fusion.expression", "at least one task must count, or all candidates tie")),
        ({"expression": ""}, ("fusion", "expected text of 1 to 500 characters")),
        ({"expression": 7}, ("fusion", "expected text of 1 to 500 characters")),
        ({"expression": "click", "version": 1}, ("fusion", "expected text of 1 to 500 characters")),
        ("c" * 501, ("fusion", "expected text of 1 to 500 characters")),
        (7, ("fusion", "expected text of 1 to 500 characters")),
        (["click"], ("fusion", "expected text of 1 to 500 characters")),
        ("exp(exp(exp(10*watch)))", ("candidates.0", "the formula has no finite value for it")),
    ],
)
def test_formulas_that_cannot_be_taken_are_refused_with_their_place(
    client: TestClient, fusion: Any, expected: tuple[str, str]
) -> None:
    ((place, message),) = problems_of(client, BODY | {"fusion": fusion})
    assert place == expected[0]
    assert message.startswith(f"{place}: {expected[1]}")


def test_every_objective_that_may_lower_the_score_is_named(client: TestClient) -> None:
    problems = problems_of(client, BODY | {"fusion": "exp(-click) - like"})
    assert [message.split()[-2] for _, message in problems] == ["click", "like"]


def test_checked_formulas_are_kept_by_model() -> None:
    tasks = builders.schema().tasks
    formulas = Formulas(Fusions(formulas={"default": WeightedSum(weights={"click": 1.0})}), tasks)
    assert formulas.find(AskedFormula.of(FORMULA))[1] is formulas.find(AskedFormula.of(FORMULA))[1]
    with pytest.raises(RequestError, match="no task 'like'"):
        Formulas(formulas.fusions, tasks[:1]).find(AskedFormula.of("click + like"))


def test_a_sum_is_the_baseline_and_its_contributions(client: TestClient) -> None:
    answer = answered(client, "/v1/rank", BODY | {"fusion": "2*click + 0.1*watch", "explain": True})
    means = scores_of(answer).double().mean(0).tolist()
    baseline = answer["baseline"]
    assert list(baseline["objectives"].values()) == pytest.approx(means)
    assert baseline["score"] == pytest.approx(2 * means[0] + 0.1 * means[2])
    for row in answer["candidates"]:
        shares = row["explanation"]["contributions"]
        assert shares["click"] == pytest.approx(2 * (row["objectives"]["click"] - means[0]), rel=1e-5)
        assert shares["like"] == 0.0
        assert row["score"] == pytest.approx(baseline["score"] + sum(shares.values()))


def by_definition(scorer: Scorer, formula: Formula, scores_BT: Tensor, task: int) -> Tensor:
    without_BT = scores_BT.double().clone()
    without_BT[:, task] = without_BT[:, task].mean()
    return scorer.formulas.fuse(formula, scores_BT.double()) - scorer.formulas.fuse(formula, without_BT)


@pytest.mark.parametrize(
    "formula", [Expression(text=FORMULA), WeightedRanks(ranks={"click": RankWeight(weight=2), "watch": RankWeight()})]
)
def test_a_contribution_is_what_is_lost_at_the_mean(bundle: Bundle, formula: Formula) -> None:
    scorer, scores_BT = Scorer(bundle), torch.rand(9, 3)
    fused_B = scorer.formulas.fuse(formula, scores_BT)
    found_BT = scorer.explainer.contributions(formula, scores_BT, fused_B)
    for task in range(3):
        torch.testing.assert_close(found_BT[:, task], by_definition(scorer, formula, scores_BT, task))
    if isinstance(formula, WeightedRanks):  # it is a sum, too
        flat = scorer.explainer.baseline(formula, scores_BT)["score"]
        torch.testing.assert_close(found_BT.sum(1) + flat, fused_B)


def test_explanations_change_nothing_else(client: TestClient) -> None:
    plain = answered(client, "/v1/rank", BODY | {"top_k": 5})
    answer = answered(client, "/v1/rank", BODY | {"top_k": 5, "explain": True})
    assert "baseline" not in plain
    assert all("explanation" not in row for row in plain["candidates"])
    explanations = [row.pop("explanation") for row in answer["candidates"]]
    assert answer.pop("baseline")
    assert len(explanations) == 5
    assert answer | {"request_id": ""} == plain | {"request_id": ""}


def test_gates_are_those_that_the_model_heard(client: TestClient, bundle: Bundle) -> None:
    raw = one_user(6)
    answer = answered(client, "/v1/score", request_of(raw) | {"explain": True})
    heard: dict[str, tuple[Gate | SelfGate, Tensor]] = {}
    hooks = [
        module.register_forward_hook(lambda gate, _, out, name=name: heard.update({name: (gate, out)}))
        for name, module in bundle.model.named_modules()
        if isinstance(module, Gate | SelfGate)
    ]
    with torch.inference_mode():
        bundle.model(collate(bundle.encoder.encode(raw), BatchLayout.of(bundle.encoder.spec, bundle.tasks)))
    for hook in hooks:
        hook.remove()
    assert heard
    for row, candidate in enumerate(answer["candidates"]):
        found = candidate["explanation"]["gates"]
        assert found.keys() == heard.keys()
        for name, (gate, weights_BTE) in heard.items():
            assert tuple(found[name]) == gate.readers
            for reader, experts, weights_E in zip(gate.readers, gate.experts, weights_BTE[row], strict=True):
                assert tuple(found[name][reader]) == experts
                assert list(found[name][reader].values()) == pytest.approx(weights_E.tolist(), abs=1e-5)
                assert math.isclose(sum(found[name][reader].values()), 1, abs_tol=1e-5)


def test_nothing_is_watched_until_it_is_asked_for(bundle: Bundle) -> None:
    scorer = Scorer(bundle)
    assert scorer.explainer.watched is None
    assert not any(module._forward_hooks for module in bundle.model.modules())


@pytest.mark.parametrize("explain", ["yes", 1, None])
def test_explain_is_true_or_false(client: TestClient, explain: Any) -> None:
    ((place, _),) = problems_of(client, BODY | {"explain": explain})
    assert place == "explain"
