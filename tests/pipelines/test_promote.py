"""Promotion, rollback and the list of versions, on a real store with models that were taught well, badly or wrongly."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from pipelines.cli import app
from pipelines.policy import Policy
from pipelines.promote import run
from pipelines.verdict import Verdict
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.day import day_facts
from recsys_mtl.registry import aliases, annotate, describe_version, set_alias
from recsys_mtl.tracking import connect
from tests import builders, days, taught

CLICKS: dict[str, Any] = {
    "objective": {"maximise": [{"metric": "auc", "task": "click"}]},
    "constraints": [],
    "replicates": 100,
}
POOR, GOOD, WRONG, SHIFTED, NARROW = range(1, 6)


@dataclass
class World:
    """A data set and a registered model of five versions."""

    root: Path
    uri: str

    @property
    def data(self) -> Path:
        return self.root / "data"

    def crown(self, version: int) -> None:
        set_alias(self.uri, "ranker", alias="champion", version=version)

    def judge(self, version: int, policy: dict[str, Any] | None = None, **options: Any) -> Verdict:
        rules = validate(Policy, CLICKS | (policy or {}))
        return run("ranker", version, quiet_console(), policy=rules, tracking_uri=self.uri, **options)

    @property
    def champion(self) -> int | None:
        return aliases(self.uri, "ranker").get("champion")


def quiet_console() -> Console:
    return Console(file=io.StringIO(), width=160)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("promote")
    world = World(root, f"sqlite:///{root}/mlflow.db")
    builders.prepared(world.data, rows=1200)
    kinds: dict[str, dict[str, Any]] = {
        "poor": {"steps": 0}, "good": {}, "wrong": {"wrong": True}, "shifted": {"shift": 1.0},
        "narrow": {"tasks": ("click",)},
    }  # fmt: skip
    for name, options in kinds.items():
        taught.registered(world.uri, root / name, taught.teach(root / name, world.data, **options))
    return world


@pytest.fixture
def world(whole: World) -> Iterator[World]:
    yield whole
    client = connect(whole.uri)
    if whole.champion is not None:
        client.delete_registered_model_alias("ranker", "champion")
    client.set_registered_model_tag("ranker", "alias_moves.champion", "[]")


def test_the_first_version_becomes_champion_without_being_judged(world: World) -> None:
    assert world.judge(WRONG).reason == "there is no champion yet"
    assert world.champion == WRONG
    assert world.judge(WRONG).reason == "it is champion already"


def test_a_better_version_is_promoted_and_its_verdict_is_kept(world: World, tmp_path: Path) -> None:
    world.crown(POOR)
    verdict = world.judge(GOOD, json_file=tmp_path / "verdict.json")
    assert (verdict.decision, verdict.champion, world.champion) == ("promote", POOR, GOOD)
    (finding,) = verdict.findings
    assert finding.estimate.low > 0.02
    assert finding.candidate - finding.champion == pytest.approx(finding.estimate.value)
    assert (verdict.rows, verdict.users) == (1200, 40)
    report = json.loads((tmp_path / "verdict.json").read_text())
    assert report["findings"][0]["low"] == finding.estimate.low
    assert report["policy"]["objective"]["maximise"][0]["task"] == "click"

    description, tags = describe_version(world.uri, "ranker", GOOD)
    assert description == f"test split: click\npolicy: {verdict.line}"
    assert (tags["policy.decision"], tags["policy.champion"]) == ("promote", "1")
    assert tags["policy.verdict"].startswith("promoted against version 1 on 1,200 rows of 40 users: click auc +0.")
    client = connect(world.uri)
    run_id = client.get_model_version("ranker", str(GOOD)).run_id
    assert run_id is not None
    assert client.get_run(run_id).data.tags["policy.verdict"] == verdict.line
    kept = client.download_artifacts(run_id, "policy/against_1.json", str(tmp_path))
    assert json.loads(Path(kept).read_text()) == report
    world.crown(WRONG)
    world.judge(GOOD)
    assert describe_version(world.uri, "ranker", GOOD)[0].count("policy: ") == 1


def test_a_worse_version_is_rejected_and_the_champion_stays(world: World) -> None:
    world.crown(POOR)
    assert world.judge(WRONG).decision == "reject"
    assert world.champion == POOR
    assert describe_version(world.uri, "ranker", WRONG)[1]["policy.decision"] == "reject"


def test_a_version_that_is_as_good_is_not_promoted_unless_the_policy_allows_it(world: World) -> None:
    world.crown(GOOD)
    verdict = world.judge(SHIFTED)
    assert (verdict.decision, world.champion) == ("keep", GOOD)
    assert verdict.findings[0].estimate == (0.0, 0.0, 0.0)
    lenient = {"objective": CLICKS["objective"] | {"margin": -0.001}}
    assert world.judge(SHIFTED, lenient).promoted
    assert world.champion == SHIFTED


def test_force_promotes_without_judging_and_a_dry_run_changes_nothing(world: World) -> None:
    world.crown(GOOD)
    annotate(world.uri, "ranker", WRONG, tags={"policy.decision": "none yet"})
    assert world.judge(WRONG, dry_run=True).decision == "reject"
    assert world.judge(WRONG, dry_run=True, force=True).promoted
    assert world.champion == GOOD
    assert describe_version(world.uri, "ranker", WRONG)[1]["policy.decision"] == "none yet"
    assert world.judge(WRONG, force=True).promoted
    assert world.champion == WRONG


def rules(verdict: Verdict) -> dict[str, tuple[bool, bool]]:
    return {finding.rule: (finding.passes, finding.harm) for finding in verdict.findings}


def test_what_is_gained_does_not_excuse_what_is_lost(world: World) -> None:
    world.crown(POOR)
    far_off = {"constraints": [{"kind": "calibration", "task": "click", "within": [0.9, 1.1]}]}
    verdict = world.judge(SHIFTED, far_off)
    assert rules(verdict) == {"click auc": (True, False), "click calibration": (False, True)}
    assert verdict.decision == "reject"
    (ratio,) = (finding.estimate for finding in verdict.findings if "calibration" in finding.rule)
    assert 1.1 < ratio.low < ratio.value < ratio.high
    assert world.judge(GOOD, far_off).promoted


def test_limits_on_metrics_of_all_tasks_and_of_amounts(world: World) -> None:
    world.crown(GOOD)
    limits = [{"kind": "metric", "metric": name, "not_below": -0.01} for name in ("auc", "gauc", "rmse")]
    verdict = world.judge(WRONG, {"constraints": limits})
    found = rules(verdict)
    assert found.keys() == {"click auc", "like auc", "click gauc", "like gauc", "watch rmse"}
    assert found["click auc"] == found["click gauc"] == (False, True)
    assert world.judge(SHIFTED, {"constraints": limits}).decision == "keep", "the same model otherwise"


def test_health_and_latency_are_measured_of_both_models(world: World) -> None:
    world.crown(POOR)
    generous = {"kind": "latency", "candidates": 30, "requests": 20, "p50_ms": 10_000, "p99_times": 1000}
    verdict = world.judge(GOOD, {"constraints": [{"kind": "health", "at_most": 99}, generous]}, dry_run=True)
    names = ["click auc", "expert alarms", "p50 of 30 candidates", "p99 of 30 candidates"]
    assert [finding.rule for finding in verdict.findings] == names
    assert verdict.promoted
    assert all(finding.champion > 0 < finding.candidate for finding in verdict.findings[2:])
    hopeless = world.judge(GOOD, {"constraints": [generous | {"p99_ms": 1e-6}]}, dry_run=True)
    assert hopeless.decision == "keep", "a slow model is not a bad one"


def test_a_version_without_a_task_of_the_champion_is_not_promoted(world: World) -> None:
    world.crown(POOR)
    verdict = world.judge(NARROW)
    assert verdict.decision == "keep"
    assert "without like, watch" in {finding.note for finding in verdict.findings}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"objective": {"maximise": [{"task": "fame"}]}}, "policy: objective.maximise.0.task: 'fame' is no task of"),
        ({"constraints": [{"kind": "metric", "metric": "rmse", "task": "click"}]},
         "policy: constraints.0.task: 'click' is no task of both models with rmse; there are: watch"),
    ],
)  # fmt: skip
def test_a_policy_about_what_the_models_do_not_have_is_refused(
    world: World, policy: dict[str, Any], message: str
) -> None:
    world.crown(POOR)
    with pytest.raises(ConfigError, match=message):
        world.judge(GOOD, policy)
    assert world.champion == POOR


def test_versions_of_different_days_are_judged_on_the_later_day(world: World, tmp_path: Path) -> None:
    days.write_days(tmp_path / "days", 2, rows=1200, hold_out=0.3)
    first, start = tmp_path / "days" / str(days.FIRST), None
    for name, data, steps in (("old", tmp_path / "days" / "base", 0), ("new", first, 20)):
        start = taught.teach(tmp_path / name, data, start=start, steps=steps)
        taught.registered(world.uri, tmp_path / name, start, name="daily")
    set_alias(world.uri, "daily", alias="champion", version=1)
    policy, later = validate(Policy, CLICKS), tmp_path / "days" / "2022-04-23"
    verdict = run("daily", 2, quiet_console(), policy=policy, data=later, tracking_uri=world.uri)
    assert (verdict.decision, verdict.rows) == ("promote", 1200)
    with pytest.raises(ConfigError, match=r"--data: .*base has fingerprint \w+, models:/daily/2 \w+, which the data "):
        run("daily", 1, quiet_console(), policy=policy, data=tmp_path / "days" / "base", tracking_uri=world.uri)
    set_alias(world.uri, "daily", alias="champion", version=1)
    with pytest.raises(ConfigError, match=r"models:/daily/2 has learnt the test rows of .*22: take --split valid, or"):
        run("daily", 2, quiet_console(), policy=policy, tracking_uri=world.uri)
    held_out = run("daily", 2, quiet_console(), policy=policy, split="valid", dry_run=True, tracking_uri=world.uri)
    assert held_out.rows == day_facts(first).held_out


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_commands_say_what_they_did_and_exit_as_they_should(world: World, tmp_path: Path) -> None:
    store = ["--tracking-uri", world.uri]
    quick = [
        "--policy",
        "replicates=100",
        "--policy",
        "constraints=[]",
        "--policy",
        "objective.maximise=[{task: click}]",
    ]
    results = [invoke("promote", "ranker", "--version", str(v), *quick, *store) for v in (POOR, WRONG, GOOD)]
    assert [result.exit_code for result in results] == [0, 1, 0]
    assert "ranker version 2 is champion now (before: 1)" in results[-1].output
    assert "click auc" in results[-1].output
    result = invoke("rollback", "ranker", "--dry-run", *store)
    assert "would go back from version 2 to 1" in result.output
    result = invoke("rollback", "ranker", *store)
    assert (result.exit_code, world.champion) == (0, POOR)
    assert "champion of ranker is version 1 again (before: 2)" in result.output
    assert describe_version(world.uri, "ranker", GOOD)[1]["policy.decision"] == "rolled back"
    result = invoke("rollback", "ranker", *store)
    assert (result.exit_code, world.champion) == (2, POOR)
    assert "no version was champion before version 1: there is nothing to go back to" in result.output
    result = invoke("promote", "ranker", "--version", "3", "--policy", str(tmp_path / "none.yaml"), *store)
    assert (result.exit_code, "No such file" in result.output) == (2, True)
    assert invoke("rollback", "unknown", *store).exit_code == 2


def test_rollbacks_lead_ever_further_back_past_versions_that_are_gone(world: World) -> None:
    for version in (POOR, WRONG, SHIFTED, GOOD):
        world.crown(version)
    store = ["--tracking-uri", world.uri]
    for expected in (SHIFTED, WRONG):
        assert invoke("rollback", "ranker", *store).exit_code == 0
        assert world.champion == expected
    world.crown(NARROW)
    assert invoke("rollback", "ranker", *store).exit_code == 0
    assert world.champion == WRONG, "what was promoted after a rollback goes back to where that led"
    assert invoke("rollback", "ranker", *store).exit_code == 0
    assert world.champion == POOR


def test_versions_are_listed_with_those_that_nothing_beats(world: World, tmp_path: Path) -> None:
    client = connect(world.uri)
    scores = {POOR: (0.5, 0.6), GOOD: (0.7, 0.5), WRONG: (0.4, 0.5), SHIFTED: (0.6, 0.6), NARROW: (0.9, 0.9)}
    for version, values in scores.items():
        run_id = client.get_model_version("ranker", str(version)).run_id
        assert run_id is not None
        for task, value in zip(("click", "like"), values, strict=True):
            client.log_metric(run_id, f"test/{task}/auc", value)
    annotate(world.uri, "ranker", NARROW, tags={"data_fingerprint": "another"})
    world.crown(GOOD)
    result = invoke("versions", "ranker", "--json", str(tmp_path / "v.json"), "--tracking-uri", world.uri)
    assert result.exit_code == 0, result.output
    rows = {row["version"]: row for row in json.loads((tmp_path / "v.json").read_text())["versions"]}
    assert {version for version, row in rows.items() if row["pareto_optimal"]} == {GOOD, SHIFTED, NARROW}
    assert rows[GOOD]["aliases"] == ["champion"]
    assert rows[POOR]["metrics"] == {"click auc": 0.5, "like auc": 0.6}
    assert invoke("versions", "ranker", "--metric", "fame", "--tracking-uri", world.uri).exit_code == 2
