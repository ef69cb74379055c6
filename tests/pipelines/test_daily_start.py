"""What a day begins with and is judged by, whatever became of the days before."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.daily_config import Pipeline, PrepareConfig
from pipelines.daily_plan import DATA_TAG, DAY_TAG, Step, make_plan
from pipelines.daily_prepare import coming_days, fingerprint
from pipelines.daily_start import FROM_TAG, REFUSED, address, judging_rows, sound, starting_point
from pipelines.notify import notify
from pipelines.policy import Policy
from recsys_mtl.config import Config, ConfigError, load, validate
from recsys_mtl.data.day import day_facts
from recsys_mtl.storage import locate
from recsys_mtl.tracking.series import FoundRun
from tests import days

NAMES = ("base", "2022-04-22", "2022-04-23", "2022-04-24", "2022-04-25")


def chain(*decisions: str, starts: Sequence[int | None] = (), digests: Sequence[str] = ()) -> list[FoundRun]:
    """Make runs of a base and days; each begins with the run whose number ``starts`` says, or with the one before."""
    found: list[FoundRun] = []
    for number, decision in enumerate(decisions):
        start = starts[number] if starts else number - 1 if number else None
        tags = {DAY_TAG: NAMES[number], FROM_TAG: "" if start is None else f"runs:/{start}/bundle"}
        tags |= {"policy.decision": decision, DATA_TAG: digests[number] if digests else ""}
        found.append(FoundRun(str(number), NAMES[number], "FINISHED", tags, {}))
    return found


CHAMPION = "runs:/champion/bundle"


@pytest.mark.parametrize(
    ("runs", "accepted", "newest"),
    [
        (chain("promote", "promote", "keep"), "runs:/2/bundle", "runs:/2/bundle"),
        (chain("promote", "promote", "reject"), "runs:/1/bundle", "runs:/2/bundle"),
        (chain("promote", "rolled back", "keep"), "runs:/0/bundle", "runs:/2/bundle"),
        (chain("promote", "reject", "keep", starts=(None, 0, 0)), "runs:/2/bundle", "runs:/2/bundle"),
        (chain("reject"), CHAMPION, "runs:/0/bundle"),
        ([], CHAMPION, CHAMPION),
    ],
)
def test_where_a_day_begins(runs: list[FoundRun], accepted: str, newest: str) -> None:
    assert starting_point(runs[::-1], "accepted", CHAMPION) == accepted
    assert starting_point(runs[::-1], "newest", CHAMPION) == newest
    assert starting_point(runs[::-1], "champion", CHAMPION) == CHAMPION
    assert starting_point(runs, "champion", None) == (address(runs[-1]) if runs else None)


@given(
    st.lists(st.sampled_from(["promote", "keep", "reject", "rolled back"]), min_size=1, max_size=5),
    st.data(),
)
def test_nothing_that_is_sound_comes_from_anything_that_was_refused(decisions: list[str], data: st.DataObject) -> None:
    starts = [None, *(data.draw(st.none() | st.integers(0, number - 1)) for number in range(1, len(decisions)))]
    runs = chain(*decisions, starts=starts)
    for run in sound(runs):
        number: int | None = int(run.run_id)
        while number is not None:
            assert decisions[number] not in REFUSED
            number = starts[number]
    refused = {number for number, decision in enumerate(decisions) if decision in REFUSED}
    for number in range(len(decisions)):
        if not refused & {number, *range(number)}:
            assert str(number) in {run.run_id for run in sound(runs)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("days")
    days.write_days(path, 4, rows=60, hold_out=0.3)
    return path


def rows_of(world: Path, runs: list[FoundRun], number: int, days: int) -> list[str]:
    facts = day_facts(world / NAMES[number]) if number else None
    held = facts.held_out if facts is not None else 0
    step = Step(NAMES[number], locate(world / NAMES[number]), 60, "", "due", held_out=held)
    rows = judging_rows(world, step, runs, days)
    return [Path(str(data)).name + "/" + split for data, split in rows.parts]


def test_a_day_is_judged_by_its_own_held_out_rows_and_those_of_good_days_before(world: Path) -> None:
    digests = ["", *(day_facts(world / name).digest for name in NAMES[1:])]
    good = chain("promote", "promote", "keep", digests=digests)
    assert rows_of(world, [], 0, 3) == ["base/test"]
    assert rows_of(world, good[:1], 1, 3) == ["base/valid", "2022-04-22/valid"]
    assert rows_of(world, good, 3, 3) == ["2022-04-22/valid", "2022-04-23/valid", "2022-04-24/valid"]
    assert rows_of(world, good, 3, 1) == ["2022-04-24/valid"]
    bad = chain("promote", "promote", "reject", digests=digests)
    assert rows_of(world, bad, 3, 3) == ["base/valid", "2022-04-22/valid", "2022-04-24/valid"]
    changed = chain("promote", "promote", "keep", digests=["", "another", *digests[2:]])
    assert rows_of(world, changed, 3, 9) == ["base/valid", "2022-04-23/valid", "2022-04-24/valid"]


def test_days_that_have_files_come_when_they_are_whole(tmp_path: Path) -> None:
    for name in ("2022-04-22/a.csv", "2022-04-23/a.csv", "2022-04-23/_DONE", "2022-02-30/a.csv", "x/a.csv"):
        (tmp_path / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / name).write_text(name)
    (tmp_path / "schema.yaml").write_text("{}")
    facts = {"schema_file": str(tmp_path / "schema.yaml"), "source": str(tmp_path / "logs/{day}/*.csv")}
    config = validate(PrepareConfig, facts)
    assert coming_days(config, None) == [date(2022, 4, 22), date(2022, 4, 23)]
    assert coming_days(config, date(2022, 4, 22)) == [date(2022, 4, 22)]
    ready = validate(PrepareConfig, facts | {"ready": str(tmp_path / "logs/{day}/_DONE")})
    assert coming_days(ready, None) == [date(2022, 4, 23)]
    before = fingerprint(config, date(2022, 4, 22))
    assert fingerprint(config, date(2022, 4, 22)) == before != fingerprint(config, date(2022, 4, 23))
    (tmp_path / "logs/2022-04-22/a.csv").write_text("longer than before")
    assert fingerprint(config, date(2022, 4, 22)) != before


def test_only_days_after_all_others_are_prepared(world: Path) -> None:
    coming = [date(2022, 4, 20), date(2022, 4, 23), date(2022, 4, 26)]
    plan = make_plan(world, [], until=None, needs_base=True, coming=coming)
    assert [step.name for step in plan.steps if not step.prepared] == ["2022-04-26"]
    assert plan.due[-1].name == "2022-04-26"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("prepare={schema_file: s.yaml, source: all.csv}", "prepare: source: every text has to name the day as {day}"),
        ("notify={}", "notify: tells nobody: give url or command"),
        ("notify.url=ftp://there", "notify.url: "),
        ("judge.policy=none.yaml", "none.yaml: No such file"),
        ("judge.policy.luck=1", "judge.policy.luck: unknown field"),
        ("publish={}", "publish.to: field required"),
    ],
)  # fmt: skip
def test_pipelines_that_make_no_sense_are_refused(source: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(Pipeline, [source])
    assert any(message in problem for problem in error.value.problems), error.value.problems


def test_a_policy_is_a_mapping_or_a_file() -> None:
    by_file = load(Pipeline, ["judge.policy=pipelines/configs/policy/default.yaml"])
    assert by_file.judge.policy == Policy() == load(Pipeline, []).judge.policy


def test_an_address_from_the_environment_is_not_told_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(Pipeline, ["notify.url=$HOOK"]).notify
    assert config is not None
    message: dict[str, Any] = {"text": "x"}
    assert notify(config, message) == ["notify.url: there is no environment variable HOOK"]
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/secret")
    (problem,) = notify(config, message)
    assert "secret" not in problem
    monkeypatch.setenv("HOOK", "no address: secret")
    (problem,) = notify(config, message)
    assert "secret" not in problem


@pytest.mark.parametrize(("page", "program"), [("daily.md", Pipeline), ("promotion.md", Policy)])
def test_the_file_on_a_page_is_one(page: str, program: type[Config], tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    (block, *_) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "file.yaml").write_text(block)
    assert load(program, [str(tmp_path / "file.yaml")]) != program()
