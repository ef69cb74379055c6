"""From models.yaml to single runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.campaign import Campaign, Choice, best_rate
from benchmarks.quality.plan import Data, Entry, Job, Plan, Variant, choose, job, load_plan, variants
from benchmarks.quality.runs import RunFailedError, Runner
from benchmarks.results import Result
from pipelines.run import TrainRun
from recsys_mtl.config import ConfigError, load, validate

TREE: dict[str, Any] = {
    "dense_parameters": 1000,
    "rates": [0.001, 0.004],
    "tasks": ["click", "watch"],
    "common": {"overrides": ["trainer.batch_size=64"]},
    "models": {
        "SingleTask": {"per_task": True},
        "Shared-Bottom": {"overrides": ["model.bottom.hidden=[16]"]},
        "MMoE": {"overrides": ["model.experts.kind=mmoe", "trainer.batch_size=32"]},
    },
    "quick": ["MMoE"],
    "ablations": {"MMoE of one": {"overrides": ["model.experts.num_experts=1"], "like": "MMoE"}},
}
PLAN = validate(Plan, TREE)


class Trainer:
    """Stands for the command: a run's validation score is the rate's distance from its model's best."""

    best = {"SingleTask click": 0.004, "SingleTask watch": 0.001, "MMoE": 0.004}

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.trained: list[str] = []

    def __call__(self, _: Runner, one: Job) -> Result:
        if one.name == self.fails:
            raise RunFailedError("see its log")
        self.trained.append(one.name)
        tasks = [one.variant.task] if one.variant.task else ["click", "watch"]
        return {
            "model": one.variant.model,
            "seed": one.seed,
            "rate": one.rate,
            "judged": -abs(one.rate - self.best.get(one.variant.name, 0.001)),
            "metrics": {"test": {task: {"auc": 0.5} for task in tasks}},
        }


def campaign(out: Path, data: Data, trainer: Trainer, plan: Plan = PLAN, **choice: Any) -> Campaign:
    only_find = choice.pop("only_find", False)
    runner = Runner(out, data, 2, lambda _: None, trainer)
    return Campaign(plan, data, Choice(**choice), runner, only_find)


def jobs(data: Data, name: str, **fields: Any) -> list[Job]:
    found = variants(PLAN, choose(PLAN.models, [name], "--models"), data, PLAN.tasks)
    return [job(variant, data, **({"seed": 0, "rate": None} | fields)) for variant in found]


def test_a_model_is_expanded_to_its_command_line(data: Data) -> None:
    (mmoe,) = jobs(data, "MMoE", seed=3, rate=0.004)
    assert mmoe.name == "MMoE-lr0.004-seed3"
    assert (mmoe.run.seed, mmoe.run.optim.dense.lr, mmoe.run.model.experts.kind) == (3, 0.004, "mmoe")
    assert mmoe.run.trainer.batch_size == 32, "a model's own settings come after the common ones"
    assert mmoe.run.tasks.include == ("click", "watch")


def test_an_ablation_is_its_model_but_for_its_own_settings(data: Data) -> None:
    (whole,) = jobs(data, "MMoE")
    (variant,) = variants(PLAN, PLAN.ablations, data, PLAN.tasks)
    part = job(variant, data, seed=0, rate=None).run
    assert part.model.experts == whole.run.model.experts.model_copy(update={"num_experts": 1})
    assert part.model_copy(update={"model": whole.run.model}) == whole.run


def test_loss_weights_are_those_of_the_tasks_that_a_model_learns_together(data: Data) -> None:
    plan = PLAN.model_copy(update={"weights": {"watch": 4.0, "like": 2.0}})
    alone, _, together, *_ = variants(plan, plan.models, data, plan.tasks)
    assert job(together, data, seed=0, rate=None).run.tasks.weights == {"watch": 4.0}, "like is not learnt"
    assert job(alone, data, seed=0, rate=None).run.tasks.weights == {}


def test_a_model_for_each_task_keeps_its_weights_by_that_task(data: Data) -> None:
    click, watch = jobs(data, "SingleTask", extra=("trainer.select.tasks=[click]", "trainer.epochs=2"))
    assert (click.run.tasks.include, watch.run.tasks.include) == (("click",), ("watch",))
    assert (click.run.trainer.select.metric, watch.run.trainer.select.metric) == ("auc", "xauc")
    assert click.run.trainer.select.tasks is watch.run.trainer.select.tasks is None
    assert click.run.trainer.epochs == 2
    assert click.run.trainer.batch_size == 64


def test_settings_are_equal_if_and_only_if_the_outcome_is(data: Data, tmp_path: Path) -> None:
    (plain,) = jobs(data, "MMoE")
    (named,) = jobs(data, "MMoE", extra=("run_name=x", f"tracking.uri=sqlite:///{tmp_path}/x.db", "cluster.workers=4"))
    assert named.settings == plain.settings
    (moved,) = jobs(replace(data, path=tmp_path / "elsewhere"), "MMoE")
    assert moved.settings == plain.settings
    others = [jobs(data, "MMoE", seed=1), jobs(data, "MMoE", rate=0.5), jobs(data, "MMoE", extra=("trainer.epochs=2",))]
    other_data = replace(data, stats=data.stats | {"fingerprint": "of other data"})
    assert not [one for (one,) in [*others, jobs(other_data, "MMoE")] if one.settings == plain.settings]


def test_names_that_the_plan_does_not_have_are_refused(data: Data) -> None:
    with pytest.raises(ConfigError, match=r"--models: no model 'PLE'; there are SingleTask, Shared-Bottom, MMoE$"):
        choose(PLAN.models, ["MMoE", "PLE"], "--models")
    with pytest.raises(ConfigError, match="--tasks: no task 'buy' in the data set; it has click, like, watch"):
        data.task("buy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quick": ["PLE"]}, "quick: no model 'PLE'"),
        ({"ablations": {"x": {"like": "SingleTask"}}}, "ablations.x.like: 'SingleTask' is no model for all tasks"),
        (
            {"models": {"X": {"like": "Y"}}, "quick": [], "ablations": {}},
            "models.X.like: 'Y' is no model for all tasks",
        ),
        ({"ablations": {"MMoE": {"like": "MMoE"}}}, "ablations.MMoE: a model has this name"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(Plan, TREE | changes)


@pytest.mark.parametrize(
    ("choice", "models", "ablations"),
    [
        (Choice(), ["SingleTask", "Shared-Bottom", "MMoE"], []),
        (Choice(models=("MMoE", "SingleTask")), ["SingleTask", "MMoE"], []),
        (Choice(quick=True), ["MMoE"], []),
        (Choice(ablations=True), ["SingleTask", "Shared-Bottom", "MMoE"], ["MMoE of one"]),
        (Choice(ablations=True, models=("MMoE of one",)), ["MMoE"], ["MMoE of one"]),
    ],
)
def test_what_is_chosen(choice: Choice, models: list[str], ablations: list[str]) -> None:
    assert tuple(list(entries) for entries in choice.entries(PLAN)) == (models, ablations)


def test_rates_are_chosen_by_validation_for_every_model_and_task(data: Data, tmp_path: Path) -> None:
    trainer = Trainer()
    done = campaign(tmp_path, data, trainer, seeds=2)
    done.run()
    chosen = {"SingleTask click": 0.004, "SingleTask watch": 0.001, "Shared-Bottom": 0.001, "MMoE": 0.004}
    assert done.rates == chosen
    assert len(trainer.trained) == 4 * 2 + 4, "two rates each, then a second seed of the chosen one"
    assert {(r["model"], r["seed"], r["rate"]) for r in done.results} == {
        (name.split()[0], seed, rate) for name, rate in chosen.items() for seed in range(2)
    }
    assert done.missing == []


def test_the_smaller_is_better_where_the_run_says_so(data: Data) -> None:
    pair = [jobs(data, "MMoE", rate=rate, extra=("trainer.select.mode=min",))[0] for rate in (0.001, 0.004)]
    assert best_rate(pair, [{"judged": 0.7}, {"judged": 0.6}]) == 0.004
    assert best_rate(pair, [{"judged": None}, None]) == 0.001
    assert best_rate(pair, [None, {"judged": 0.9}]) == 0.004


def test_a_finished_run_is_not_repeated_and_a_changed_one_is(data: Data, tmp_path: Path) -> None:
    campaign(tmp_path, data, Trainer(), seeds=1).run()
    again = Trainer()
    same = campaign(tmp_path, data, again, seeds=1)
    same.run()
    assert again.trained == []
    assert len(same.results) == 4
    longer = campaign(tmp_path, data, again, seeds=2, models=("MMoE",))
    longer.run()
    assert again.trained == ["MMoE-lr0.004-seed1"]
    changed = Trainer()
    campaign(tmp_path, data, changed, seeds=1, models=("MMoE",), extra=("trainer.epochs=2",)).run()
    assert changed.trained == ["MMoE-lr0.001-seed0", "MMoE-lr0.004-seed0"]


def test_a_run_that_fails_is_missing_and_stops_nothing(data: Data, tmp_path: Path) -> None:
    trainer = Trainer(fails="MMoE-lr0.004-seed1")
    broken = campaign(tmp_path, data, trainer, seeds=2, models=("Shared-Bottom", "MMoE"))
    broken.run()
    assert broken.missing == ["MMoE-lr0.004-seed1"]
    assert len(broken.results) == 3
    found = Trainer()
    report = campaign(tmp_path, data, found, seeds=2, models=("MMoE",), only_find=True)
    report.run()
    assert (found.trained, report.missing) == ([], ["MMoE-lr0.004-seed1"])


def test_quick_has_one_seed_and_no_search(data: Data, tmp_path: Path) -> None:
    trainer = Trainer()
    campaign(tmp_path, data, trainer, quick=True, seeds=3).run()
    assert trainer.trained == ["MMoE-lr0.001-seed0"]


def test_an_ablation_has_the_rate_of_the_whole_model_and_two_seeds(data: Data, tmp_path: Path) -> None:
    trainer = Trainer()
    campaign(tmp_path, data, trainer, ablations=True, models=("MMoE of one",)).run()
    assert [name for name in trainer.trained if "of one" in name] == [f"MMoE of one-lr0.004-seed{s}" for s in (0, 1)]


def test_what_cannot_run_shows_before_anything_runs(data: Data, tmp_path: Path) -> None:
    wrong = {"X": {"sources": ["nowhere.yaml"]}, "Y": {"overrides": ["model.experts.kind=moe"]}, "Z": {}}
    plan = validate(Plan, TREE | {"models": TREE["models"] | wrong})
    sized = campaign(tmp_path, data, Trainer(), plan, models=("X", "Y", "Z"), extra=("trainer.select.tasks=[like]",))
    with pytest.raises(ConfigError) as caught:
        sized.sizes()
    starts = ["X: nowhere.yaml: No such file", "Y: model.experts.kind: expected", "Z: trainer.select.tasks: no task"]
    assert [problem.startswith(start) for problem, start in zip(caught.value.problems, starts, strict=True)] == [
        True
    ] * 3


PUBLISHED = load_plan()
ENTRIES = PUBLISHED.models | PUBLISHED.ablations


@pytest.mark.parametrize("name", ENTRIES)
def test_the_published_plan_resolves(name: str) -> None:
    entry: Entry = ENTRIES[name]
    for source in PUBLISHED.sources(entry):
        if source.endswith(".yaml") and not Path(source).exists():
            pytest.skip(f"no {source}")
    load(TrainRun, [*PUBLISHED.sources(entry), "data.path=x"]).trainer.select.check(PUBLISHED.tasks, "trainer.select")


def test_a_variant_is_named_by_its_model_and_task() -> None:
    assert Variant("A", None, (), ()).name == "A"
    assert Variant("A", "click", (), ()).name == "A click"
