"""The report, of results made by hand."""

import math
import re
from typing import Any

import pytest

from benchmarks.quality.costs import health_table, sizes_table, speed_table
from benchmarks.quality.facts import Facts
from benchmarks.quality.flops import Size
from benchmarks.quality.plan import Data, Plan
from benchmarks.quality.report import report
from benchmarks.quality.scores import averages, gains, gather, health_of, reference, seesaw, values
from benchmarks.results import Result
from recsys_mtl.config import validate

TASKS = ("click", "like", "watch")
METRICS = {"click": "auc", "like": "auc", "watch": "xauc"}
PLAN = validate(
    Plan,
    {
        "dense_parameters": 1000,
        "tasks": TASKS,
        "models": {"SingleTask": {"per_task": True}, "Shared-Bottom": {}, "MMoE": {}},
        "quick": [],
        "ablations": {"MMoE of one": {"like": "MMoE"}},
    },
)


def result(model: str, seed: int, *, only: str | None = None, **found: float | None) -> Result:
    """A run's result from AUCs, and XAUC where the task is an amount."""
    amounts = {"watch"}
    metrics = {
        task: {"xauc": value, "rmse": 9.0} if task in amounts else {"auc": value, "gauc": 0.6}
        for task, value in found.items()
    }
    speed = {"seconds": 10.0, "command_s": 30.0, "rows_per_s": 1000.0, "commit": "abc"}
    return {"model": model, "task": only, "seed": seed, "metrics": {"test": metrics}, "health": {}} | speed


RESULTS = [
    result("MMoE", 0, click=0.74, like=0.85, watch=0.60),
    result("MMoE", 1, click=0.75, like=0.86, watch=0.61),
    result("MMoE", 2, click=0.76, like=0.90, watch=0.62),
    result("Shared-Bottom", 0, click=0.73, like=0.86, watch=0.65),
    result("Shared-Bottom", 1, click=0.72, like=0.85, watch=0.65),
    result("MMoE of one", 0, click=0.70, like=0.80, watch=0.55),
    *(result("SingleTask", seed, only="click", click=0.70) for seed in range(3)),
    *(result("SingleTask", seed, only="like", like=0.80 + 0.01 * seed) for seed in range(3)),
    *(result("SingleTask", seed, only="watch", watch=0.64) for seed in range(2)),
]


@pytest.fixture
def facts(data: Data) -> Facts:
    sizes = {
        "SingleTask": [Size(900, 50, 1000, 900.0), Size(1050, 50, 1200, 1100.0), Size(700, 50, 100, 100.0)],
        "Shared-Bottom": [Size(1099, 50, 1000, 900.0)],
        "MMoE": [Size(1101, 50, 2000, 1900.5)],
        "MMoE of one": [Size(899, 50, 200, 190.0)],
    }
    counted: dict[str, Any] = {"click": 800, "like": 499, "watch": None}
    test = {"rows": 1000, "tasks": {task: {"known": 900, "positives": n} for task, n in counted.items()}}
    described = Data(data.path, data.spec, {"splits": {"test": test}})
    rates = {"SingleTask click": 0.002, "MMoE": 0.001}
    return Facts("python -m x", PLAN, described, TASKS, sizes, rates, RESULTS, ["MMoE-lr0.001-seed9"], searched=True)


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def cells(text: str, model: str) -> list[str]:
    (line,) = re.findall(rf"^\| {re.escape(model)} \|.*$", text, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_model_for_each_task_is_one_row() -> None:
    scores = gather(RESULTS)
    assert values(scores, "SingleTask", "like", "auc") == pytest.approx({0: 0.80, 1: 0.81, 2: 0.82})
    assert averages(scores, "SingleTask", ["click", "like"]) == pytest.approx({0: 0.75, 1: 0.755, 2: 0.76})
    assert set(averages(scores, "SingleTask", list(TASKS), "xauc")) == set()


def test_seeds_that_lack_a_task_are_in_no_average() -> None:
    scores = gather([*RESULTS, result("MMoE", 3, click=0.99), result("MMoE", 4, click=0.99, like=None)])
    assert set(averages(scores, "MMoE", ["click", "like"])) == {0, 1, 2}
    assert averages(scores, "nobody", ["click"]) == {}
    assert averages(scores, "MMoE", []) == {}


def test_gains_are_paired_and_the_seesaw_counts_losers() -> None:
    found = gains(gather(RESULTS), "MMoE", METRICS)
    assert found["click"].mean == pytest.approx(0.05)
    assert found["like"].mean == pytest.approx((0.05 + 0.05 + 0.08) / 3)
    assert found["watch"].mean == pytest.approx(-0.035)
    assert found["watch"].count == 2
    assert seesaw(found) == pytest.approx(1 / 3)
    assert math.isnan(seesaw(gains(gather(RESULTS), "nobody", METRICS)))


def test_the_better_of_the_simple_models_is_the_reference() -> None:
    assert reference(gather(RESULTS), ["click"]) == "Shared-Bottom"
    assert reference(gather(RESULTS[:3]), ["click"]) is None
    assert reference(gather([r for r in RESULTS if r["model"] != "Shared-Bottom"]), ["click"]) == "SingleTask"


def test_the_average_is_over_events_with_enough_positives(facts: Facts) -> None:
    text = section(report(facts), "Average")
    assert "Over click:" in text, "like has 499 positives, watch is an amount"
    assert "over Shared-Bottom" in text
    # 0.74, 0.75, 0.76: sd 0.01; against 0.73 and 0.72 the differences are 0.01 and 0.03
    assert cells(text, "MMoE") == ["3", "0.7500", "0.00577", "+0.02000", "+2.0", "33%"]
    assert cells(text, "SingleTask")[-1] == "–"
    assert "12.7 for 2 seeds" in text
    assert "MMoE of one" not in text


def test_tables_of_tasks_gains_and_ablations(facts: Facts) -> None:
    text = report(facts)
    tasks = cells(section(text, "Tasks"), "MMoE")
    assert tasks[:2] == ["0.7500 ± 0.0100", "0.6000 ± 0.0000"]
    assert tasks[4:] == ["0.6100 ± 0.0100", "9.0000 ± 0.0000"]
    assert cells(section(text, "Gain over SingleTask"), "Shared-Bottom")[0] == "+0.0250 (+5.0)"
    assert cells(section(text, "Ablations"), "MMoE of one")[:3] == ["MMoE", "1", "-0.04000"]
    assert "- MMoE-lr0.001-seed9" in section(text, "Missing runs")
    assert "| like | 900 | 499 |" in text
    assert "| watch | 900 | – |" in text


def test_models_off_the_common_size_are_marked(facts: Facts) -> None:
    text = sizes_table(PLAN, facts.sizes)
    assert cells(text, "SingleTask") == ["3 × 700", "-30.0% **off**", "150", "2,300", "2,100"]
    assert cells(text, "Shared-Bottom")[:2] == ["1,099", "+9.9%"]
    assert cells(text, "MMoE")[:2] == ["1,101", "+10.1% **off**"]
    assert cells(text, "MMoE of one")[1] == "-10.1% **off**"


def test_time_of_a_model_for_each_task_is_the_sum(facts: Facts) -> None:
    text = speed_table(facts)
    assert cells(text, "MMoE") == ["10", "30", "1,000"]
    assert cells(text, "SingleTask") == ["27", "80", "1,000"]


def test_expert_health_is_the_worst_of_all_runs(facts: Facts) -> None:
    sick = {"health/1/scale_ratio": 3.0, "health/1/dead_experts": 1.0, "health/2/dead_experts": 2.0}
    worse = {"health/1/scale_ratio": 2.0, "health/2/scale_ratio": 5.5, "health/2/max_zero_ratio": 0.912}
    other = {"health/1/dead_experts": 2.0, "health/1/occupancy/dead_experts of 1": 9.0, "health/3/scale_ratio": None}
    runs = [RESULTS[0] | {"health": sick, "state": "ok"}, RESULTS[1] | {"health": worse | other, "state": "collapse"}]
    assert health_of(runs) == {"scale ratio": 5.5, "dead experts": 3.0, "zero ratio": 0.912}
    table = health_table(Facts(**(vars(facts) | {"results": runs})))
    assert cells(table, "MMoE") == ["5.5", "3", "–", "0.912", "collapse; ok"]
    assert health_table(facts) == "No run has recorded any."


def test_a_report_of_nothing_names_what_is_missing(facts: Facts) -> None:
    text = report(Facts(**(vars(facts) | {"results": [], "missing": ["A", "B"]})))
    assert "- A\n- B" in text
    assert "nan" not in text
