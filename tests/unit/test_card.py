import re
from dataclasses import replace
from typing import Any

import pytest

from recsys_mtl.card import CardFacts, model_card

TASKS = (
    {"name": "is_click", "kind": "binary", "space": None},
    {"name": "is_buy", "kind": "binary", "space": "is_click"},
    {"name": "is_hate", "kind": "binary", "space": None},
    {"name": "watch", "kind": "regression", "space": None, "unit": "s"},
)


def split(rows: int) -> dict[str, Any]:
    return {
        "rows": rows,
        "tasks": {
            "is_click": {"known": rows, "positives": rows // 2, "rate": 0.375},
            "is_buy": {"known": rows // 4, "positives": 7, "rate": 0.0123456},
            "is_hate": {"known": rows // 5, "positives": 0, "rate": 0.0},
            "watch": {"known": 0, "mean": None},
        },
        "fields": {
            "item": {"values": 1000, "unknown": 32, "missing": 0},
            "user": {"values": 1000, "unknown": 1, "missing": 0},
            "tags": {"values": 0, "unknown": 0, "missing": 0},
        },
    }


def measured(auc: float) -> dict[str, dict[str, float | None]]:
    binary: dict[str, float | None] = {
        "auc": auc,
        "gauc": 0.61234,
        "gauc_coverage": 0.5,
        "logloss": 0.41,
        "normalized_entropy": 0.9,
        "calibration": 1.03,
        "ece": 0.0021,
    }
    undefined = dict.fromkeys(binary, float("nan"))
    return {
        "is_click": {"rows": 5_000, "positives": 2_500, **binary},
        "is_buy": {"rows": 1_250, "positives": 99, **binary},
        "is_hate": {"rows": 1_000, "positives": 0, **undefined, "logloss": None},
        "watch": {"rows": 0, "rmse": None, "mae": None, "xauc": None, "calibration": None},
    }


FACTS = CardFacts(
    run={"run_id": "abc", "seed": 3, "git_commit": "f00d-dirty"},
    data={"fingerprint": "feedbeef", "splits": {"train": split(20_000), "test": split(5_000)}},
    tasks=TASKS,
    model={
        "field_dropout": {},
        "bottom": {"kind": "shared", "hidden": [256]},
        "experts": {"kind": "mmoe"},
        "heads": {"kind": "towers"},
    },
    parameters={"embedding tables": 1_234_567, "dense layers": 89_012},
    calibration={"tasks": {"is_click": {"kind": "platt", "slope": 1.1, "intercept": -0.25}}},
    metrics={"valid": measured(0.7), "test": measured(0.71234)},
)


def row(card: str, after: str, name: str) -> list[str]:
    """Cells of a row of the first table behind a heading."""
    body = card[card.index(after) :]
    line = next(line for line in body.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_card_says_what_the_model_predicts() -> None:
    card = model_card("recsys-mtl", FACTS)
    assert card.startswith(
        "# recsys-mtl\n\nA multi-task ranking model (bottom `shared`, experts `mmoe`, heads `towers`)."
        " For every candidate it predicts\n\n- `is_click`: a probability\n- `is_buy`: a probability, given `is_click`\n"
        "- `is_hate`: a probability\n- `watch`: an amount in s\n"
    )


def test_metrics_stand_beside_the_counts_that_they_rest_on() -> None:
    card = model_card("recsys-mtl", FACTS)
    assert row(card, "### test", "`is_click`") == ["5,000", "2,500", "0.7123", "0.6123", "0.5000", "0.4100", "0.9000"]
    assert row(card, "### valid", "`is_click`")[2] == "0.7000"
    assert row(card, "### test", "`is_hate`") == ["1,000", "0", "–", "–", "–", "–", "–"]
    assert row(card, "### test", "`watch`") == ["0", "–", "–", "–", "–"]
    assert row(card, "On test, of the model's own probabilities, before calibration:", "`is_buy`") == [
        "1,250",
        "99",
        "1.0300",
        "0.0021",
    ]


def test_data_sizes_and_origin_are_in_the_card() -> None:
    card = model_card("recsys-mtl", FACTS)
    assert row(card, "## Data", "rows") == ["20,000", "5,000"]
    assert row(card, "## Data", "`is_buy`") == ["1.23 % of 5,000", "1.23 % of 1,250"]
    assert row(card, "## Data", "`watch`") == ["no known labels", "no known labels"]
    assert row(card, "## Architecture", "weights, embedding tables") == ["1,234,567"]
    assert row(card, "## Architecture", "bottom.hidden") == ["`[256]`"]
    assert row(card, "## Origin", "git commit") == ["f00d-dirty"]
    assert "- `is_click`: platt (slope 1.1, intercept -0.25)\n- `is_buy`: identity\n" in card
    assert "recsys-mtl serve --model 'models:/recsys-mtl@champion'" in card


def test_card_names_the_calibrator_and_what_it_does() -> None:
    curve = {"kind": "isotonic", "logits": [0.0, 1.0], "values": [0.0, 2.0]}
    fits = {"is_click": {"calibrator": "isotonic", "ece_before": 0.0321, "ece_after": 0.0045}, "is_buy": {}}
    card = model_card("m", replace(FACTS, calibration={"tasks": {"is_click": curve}}, fits=fits))
    wanted = "isotonic (2 knots); ECE on users held out from its fit 0.0321 before, 0.0045 after"
    assert f"- `is_click`: {wanted}\n- `is_buy`: identity\n" in card


def test_card_says_whether_calibration_was_measured_as_served() -> None:
    assert "On test, as served:" in model_card("m", replace(FACTS, calibrated=True))
    assert "On test, as served:" in model_card("m", replace(FACTS, calibration={"tasks": {}}))


def test_expert_health_is_in_the_card_if_it_was_measured() -> None:
    assert "Expert health" not in model_card("m", FACTS)
    assert "## Expert health\n\nNothing alarming" in model_card("m", replace(FACTS, health=[]))
    card = model_card("m", replace(FACTS, health=["experts: one is dead", "experts: one is loud"]))
    assert "## Expert health\n\n- experts: one is dead\n- experts: one is loud\n\n## Limits" in card


def test_limits_follow_from_the_numbers() -> None:
    limits = model_card("recsys-mtl", FACTS).split("## Limits\n")[1].split("## Serving")[0]
    assert re.findall(r"^- (`.*|3.*)$", limits, re.MULTILINE) == [
        "`is_buy` has 99 positives in test: too few for its metrics to be relied on.",
        "`is_buy` was learned and measured only where `is_click` is positive.",
        "`is_hate` has 0 positives in test: too few for its metrics to be relied on.",
        "`is_hate` was learned from the 20 % of rows whose label is known.",
        "`watch` was learned from the 0 % of rows whose label is known.",
        "3.2 % of the values of `item` in test are new and share one vector.",
    ]


def test_every_number_comes_from_the_facts() -> None:
    card = model_card("m", replace(FACTS, run={}))
    allowed = {str(number) for number in (0, 3.2, 20, 37.5, 99)}
    numbers = set(re.findall(r"(?<![\w.,])\d[\d,.]*\d|(?<![\w.,-])\d(?![\w.])", card))
    facts = {
        *("20,000", "5,000", "4,000", "1,250", "1,000", "2,500", "1.23", "1,234,567", "89,012", "256", "1.1", "0.25"),
        *("0.7123", "0.7000", "0.6123", "0.5000", "0.4100", "0.9000", "1.0300", "0.0021"),
    }
    assert numbers <= allowed | facts


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_one_kind_of_task_alone_is_enough(kind: str) -> None:
    card = model_card("m", replace(FACTS, tasks=[task for task in TASKS if task["kind"] == kind]))
    assert ("GAUC" in card) == (kind == "binary")
    assert ("XAUC" in card) == (kind == "regression")
    assert ("No task is a probability." in card) == (kind == "regression")
