"""Search spaces: what they take, what they refuse, and points as settings of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipelines.run import TrainRun
from pipelines.search_space import Dimension, TuneConfig, applied, at, check, first_point, overrides
from pipelines.tune_report import TrialResult, front, words
from recsys_mtl.config import ConfigError, load, validate
from recsys_mtl.training.select import Criterion

SPACE = {
    "optim.dense.lr": {"log_uniform": [0.0005, 0.01]},
    "model.bottom.hidden": {"choice": [[], [64], [128, 64]]},
    "trainer.epochs": {"integer": [1, 3]},
}


def make_run(**fields: Any) -> TrainRun:
    return validate(TrainRun, {"data": {"path": "data/demo"}, **fields})


def make_config(**fields: Any) -> TuneConfig:
    return validate(TuneConfig, {"space": SPACE, **fields})


def test_kinds_of_values_are_those_of_the_search() -> None:
    found = {path: dimension.distribution() for path, dimension in make_config().space.items()}
    assert found == {
        "optim.dense.lr": FloatDistribution(0.0005, 0.01, log=True),
        "model.bottom.hidden": CategoricalDistribution(["[]", "[64]", "[128, 64]"]),
        "trainer.epochs": IntDistribution(1, 3),
    }


@pytest.mark.parametrize(
    ("dimension", "problem"),
    [
        ({}, "expected exactly one of choice, uniform, log_uniform, integer, got none"),
        ({"uniform": [0, 1], "integer": [0, 1]}, "got uniform, integer"),
        ({"uniform": [1, 1]}, r"uniform: 1\.0 is not below 1\.0"),
        ({"log_uniform": [0, 1]}, r"log_uniform: 0\.0 has no logarithm"),
        ({"choice": [1]}, "choice"),
        ({"range": [1, 2]}, "range"),
    ],
)
def test_a_dimension_that_is_none_is_refused_with_its_path(dimension: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.optim\.dense\.lr.*{problem}"):
        validate(TuneConfig, {"space": {"optim.dense.lr": dimension}})


def test_fields_that_a_run_does_not_have_are_found_before_anything_starts() -> None:
    space = {"optim.dense.rate": {"uniform": [0, 1]}, "trainer.epochs": {"integer": [0, 3]}, **SPACE}
    objectives = [{"metric": "auc", "tasks": ["shares"]}, {"metric": "likes/auc"}]
    config = validate(TuneConfig, {"space": space | {"trainer.epochs": {"integer": [0, 3]}}, "objectives": objectives})
    with pytest.raises(ConfigError) as caught:
        check(make_run(), config, ("click",))
    problems = "\n".join(caught.value.problems)
    for path in ("space.optim.dense.rate: 0.0: optim.dense.rate", "space.trainer.epochs: 0: trainer.epochs"):
        assert path in problems
    for task in ("objectives.0.tasks: no task 'shares'", "objectives.1.metric: no task 'likes'"):
        assert task in problems
    assert len(caught.value.problems) == 4


def test_a_point_is_settings_of_a_run() -> None:
    config = make_config()
    fields = overrides(config.space, {"optim.dense.lr": 0.002, "model.bottom.hidden": "[64]", "trainer.epochs": 2})
    run = applied(make_run(), fields)
    assert run.model_dump()["model"]["bottom"]["hidden"] == (64,)
    assert (run.optim.dense.lr, run.trainer.epochs) == (0.002, 2)
    assert words(fields) == ["optim.dense.lr=0.002", "model.bottom.hidden=[64]", "trainer.epochs=2"]


def test_the_first_point_is_the_run_itself_as_far_as_it_lies_in_the_space() -> None:
    run = make_run(optim={"dense": {"lr": 0.001}}, trainer={"epochs": 5})
    space = make_config().space
    assert first_point(run, space) == {
        "optim.dense.lr": 0.001,
        "model.bottom.hidden": "[]",
        "trainer.epochs": space["trainer.epochs"].ends[0],  # Optuna takes points with all fields only
    }


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3), st.lists, max_leaves=4))
def test_choices_can_be_anything(value: Any) -> None:
    dimension = Dimension(choice=("another value", value))
    assert dimension.decoded(dimension.encoded(value)) == json.loads(json.dumps(value))
    assert dimension.encoded("not among them") is None


def test_what_is_sought_is_what_the_run_is_judged_by() -> None:
    run = make_run(trainer={"select": {"metric": "logloss", "tasks": ["click"], "mode": "min"}})
    assert make_config().goals(run) == (run.trainer.select,)
    assert make_config().goals(run)[0].name == "logloss of click"
    assert make_config(objectives=[{"metric": "auc"}]).goals(run) == (Criterion(metric="auc"),)


VALUES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8)


@given(VALUES)
def test_the_front_is_what_nobody_beats(values: list[tuple[int, int]]) -> None:
    goals = (Criterion(metric="auc"), Criterion(metric="rmse", mode="min"))
    trials = [TrialResult(str(i), "finished", {}, (float(a), float(b))) for i, (a, b) in enumerate(values)]
    found = {trial.name for trial in front(trials, goals)}
    for i, (a, b) in enumerate(values):
        beaten = any((c, d) != (a, b) and c >= a and d <= b for c, d in values)
        assert (str(i) in found) is not beaten


def test_only_finished_trials_can_be_best() -> None:
    nan = float("nan")
    trials = [
        TrialResult("a", "stopped early", {}, (0.9,)),
        TrialResult("b", "finished", {}, (0.7,)),
        TrialResult("c", "finished", {}, (0.8,)),
        TrialResult("d", "finished", {}, (nan,)),
        TrialResult("e", "failed", {}, (nan,)),
    ]
    assert [trial.name for trial in front(trials, (Criterion(),))] == ["c"]
    assert [trial.name for trial in front(trials, (Criterion(mode="min"),))] == ["b"]


@pytest.mark.parametrize("file", sorted(Path("pipelines/configs/tune").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_space_of_ours_fits_the_model_of_its_name(file: Path) -> None:
    run = load(TrainRun, [f"pipelines/configs/models/{file.name}", "data.path=data/demo"])
    config = load(TuneConfig, [str(file)])
    check(run, config, ())
    tree = run.model_dump(mode="json")
    own = {path: dimension.encoded(at(tree, path)) for path, dimension in config.space.items()}
    assert first_point(run, config.space) == own, "the preset itself is tried first"
