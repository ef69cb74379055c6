"""What is due in a series of days, without training anything."""

import io
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.daily import Daily, as_dict, read_config, run
from pipelines.daily_plan import DATA_TAG, DAY_TAG, Plan, make_plan
from recsys_mtl.config import ConfigError
from recsys_mtl.data.day import day_facts
from recsys_mtl.tracking.series import FoundRun
from tests import builders, days

FIRST, SECOND, THIRD, FOURTH = (date(2022, 4, day) for day in (22, 23, 24, 25))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("days")
    days.write_days(path, 4, rows=40)
    return path


@pytest.fixture
def world(tmp_path: Path, prepared: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "days"))


def finished(world: Path, *names: date | str, digest: str | None = None) -> list[FoundRun]:
    return [
        FoundRun(
            f"id-{name}",
            f"daily-{name}",
            "FINISHED",
            {DAY_TAG: str(name), DATA_TAG: digest or digest_of(world, name)},
            {},
        )
        for name in names
    ]


def digest_of(world: Path, name: date | str) -> str:
    return "" if name == "base" else day_facts(world / str(name)).digest


def states(plan: Plan) -> dict[str, str]:
    return {step.name: step.state for step in plan.steps}


def plan_of(world: Path, runs: list[FoundRun], until: date | None = None, *, needs_base: bool = True) -> Plan:
    return make_plan(world, runs, until=until, needs_base=needs_base)


def test_a_series_begins_with_its_base_and_goes_through_the_days_in_order(world: Path) -> None:
    plan = plan_of(world, [])
    assert [step.name for step in plan.due] == ["base", "2022-04-22", "2022-04-23", "2022-04-24", "2022-04-25"]
    assert [step.rows for step in plan.steps] == [60, 40, 40, 40, 40]
    assert (plan.newest, plan.notes) == (None, ())


def test_a_series_that_begins_with_a_model_needs_no_base(world: Path) -> None:
    assert "base" not in states(plan_of(world, [], needs_base=False))
    shutil.rmtree(world / "base")
    assert len(plan_of(world, [], needs_base=False).due) == 4
    with pytest.raises(ConfigError, match=r"init_from: field required: there is no .*base to begin with"):
        plan_of(world, [])


def test_what_is_learnt_is_not_learnt_again_and_what_was_missed_is_caught_up(world: Path) -> None:
    plan = plan_of(world, finished(world, "base", FIRST))
    assert states(plan) == {
        "base": "learnt before", str(FIRST): "learnt before",
        str(SECOND): "due", str(THIRD): "due", str(FOURTH): "due",
    }  # fmt: skip
    assert plan.newest is not None
    assert plan.newest.run_id == f"id-{FIRST}"
    assert states(plan_of(world, finished(world, "base", FIRST), until=SECOND)).keys() == {
        "base",
        str(FIRST),
        str(SECOND),
    }
    assert plan_of(world, finished(world, "base", FIRST, SECOND, THIRD, FOURTH)).due == []


def test_learnt_days_whose_data_are_gone_still_count(world: Path) -> None:
    runs = finished(world, "base", FIRST, SECOND)
    for name in ("base", str(FIRST), str(SECOND)):
        shutil.rmtree(world / name)
    plan = plan_of(world, runs)
    assert states(plan) == {str(THIRD): "due", str(FOURTH): "due"}
    assert plan.newest is not None
    assert plan.newest.run_id == f"id-{SECOND}"


def test_a_day_that_comes_after_later_ones_were_learnt_has_missed_its_turn(world: Path) -> None:
    plan = plan_of(world, finished(world, "base", FIRST, THIRD))
    assert states(plan)[str(SECOND)] == "too late"
    assert [step.name for step in plan.due] == [str(FOURTH)]
    assert plan.notes == ("2022-04-23: comes too late, 2022-04-24 is learnt already; it is left out",)


def test_a_gap_is_named_and_passed_over(world: Path) -> None:
    shutil.rmtree(world / str(SECOND))
    shutil.rmtree(world / str(THIRD))
    plan = plan_of(world, finished(world, "base", FIRST))
    assert [step.name for step in plan.due] == [str(FOURTH)]
    assert plan.notes == ("2022-04-25: there are no data of 2022-04-23 to 2022-04-24",)
    shutil.rmtree(world / str(FIRST))
    assert plan_of(world, finished(world, "base")).notes == (), "the base says nothing of its last day"


def test_data_that_change_after_they_were_learnt_are_named(world: Path) -> None:
    plan = plan_of(world, finished(world, "base", FIRST, digest="another"))
    assert states(plan)[str(FIRST)] == "changed since"
    assert "2022-04-22: its data have changed since it was learnt, and are not learnt again" in plan.notes


def refusal(world: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        plan_of(world, [], **options)
    return "\n".join(error.value.problems)


def test_directories_without_days_are_refused(tmp_path: Path, world: Path) -> None:
    assert "has no directory named by a day, such as 2022-04-22" in refusal(tmp_path / "none")
    assert refusal(world, until=date(2022, 1, 1)).endswith("2022-04-22 up to 2022-01-01")


def test_a_directory_that_holds_another_day_or_none_is_refused(world: Path) -> None:
    (world / str(FOURTH)).rename(world / "2022-04-26")
    assert refusal(world).endswith("2022-04-26: holds 2022-04-25")
    shutil.rmtree(world / "2022-04-26")
    builders.prepared(world / "2022-04-26")
    assert refusal(world).endswith("is not a prepared day; see `recsys-mtl prepare`, --days-from")


def test_a_day_that_continues_another_data_set_is_refused_before_anything_starts(tmp_path: Path, world: Path) -> None:
    builders.prepared(tmp_path / "stranger", rows=100)
    days.add_day(world, SECOND, tmp_path / "stranger", seed=3, rows=40)
    found = refusal(world)
    assert f"{world / str(SECOND)}: does not continue 2022-04-22: moments.duration" in found
    assert f"{world / str(THIRD)}: does not continue 2022-04-23: moments.duration" in found


def config(world: Path, tmp_path: Path, *sources: str) -> Daily:
    return Daily(read_config([f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", *sources], world), world, series="s")


def test_a_dry_run_says_what_is_due_and_starts_nothing(world: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    json_file = tmp_path / "out.json"
    facts = run(config(world, tmp_path), console, until=FIRST, json_file=json_file, dry_run=True)
    assert [day["state"] for day in facts["days"]] == ["due", "due"]
    assert json.loads(json_file.read_text()) == facts
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2022-04-22" in text
    assert "run_id" not in text


@pytest.mark.parametrize("source", ["data.path=x", "run_name=x"])
def test_settings_that_the_series_makes_itself_are_refused(world: Path, source: str) -> None:
    with pytest.raises(ConfigError, match=f"{source.partition('=')[0]}: would be ignored"):
        read_config([source], world)


def test_a_day_is_one_progressive_pass_and_the_base_is_as_configured(world: Path, tmp_path: Path) -> None:
    daily = config(world, tmp_path, "trainer.epochs=3", "trainer.eval_every=7", "trainer.select.patience=2")
    base, first, *_ = daily.plan().due
    run_of_base = daily.run_of(base, None)
    assert (run_of_base.run_name, run_of_base.trainer, run_of_base.init_from) == ("s-base", daily.config.trainer, None)
    run_of_day = daily.run_of(first, "abc")
    assert type(run_of_day).model_validate(run_of_day.model_dump()) == run_of_day, "its fields go together"
    assert run_of_day.trainer.progressive
    assert run_of_day.init_from is not None
    assert run_of_day.init_from.model == "runs:/abc/bundle"
    assert run_of_day.data.path == str(world / str(FIRST))


def test_a_series_can_begin_with_a_model(world: Path, tmp_path: Path) -> None:
    daily = config(world, tmp_path, "init_from=models:/m/3")
    first = daily.plan().due[0]
    assert daily.run_of(first, None).init_from == daily.config.init_from
    assert as_dict(first) == {"day": str(FIRST), "state": "due", "rows": 40, "metrics": {}}
