"""A day's pipeline on a real store: what is promoted, what is done once, and who hears of it.

Models are taught in this process in a second; tests/pipelines/test_daily.py has the real training.
"""

import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from pipelines import daily_verdict
from pipelines.daily import Daily, read_config, run
from pipelines.daily_config import Pipeline
from pipelines.daily_plan import DATA_TAG, DAY_TAG, SERIES_TAG, Step
from pipelines.daily_start import FROM_TAG
from pipelines.rollback import roll_back
from recsys_mtl.config import ConfigError, validate
from recsys_mtl.data.day import day_facts
from recsys_mtl.registry import BUNDLE, aliases, fetch, register
from recsys_mtl.tracking import Run, connect
from recsys_mtl.tracking.series import PARENT
from tests import builders, days, taught

FIRST, SECOND, THIRD = (str(days.FIRST.replace(day=days.FIRST.day + number)) for number in range(3))
POLICY = {
    "objective": {"maximise": [{"metric": "auc", "task": "click"}], "margin": -0.05},
    "constraints": [],
    "replicates": 100,
}


class TaughtDaily(Daily):
    """A series whose days are learnt in this process."""

    def session(self, *, verbose: bool) -> AbstractContextManager[None]:  # noqa: ARG002  the real one's signature
        return nullcontext()

    def train(
        self,
        step: Step,
        before: str | None,
        console: Console,  # noqa: ARG002  the real one's signature
        *,
        verbose: bool,  # noqa: ARG002
        tags: dict[str, str] | None = None,
    ) -> str:
        config = self.run_of(step, before)
        folder = Path(str(self.days)).parent / "taught" / step.name
        start = None if before is None else fetch(before, config.tracking.uri, into=folder / "start").path
        how: dict[str, Any] = {} if start is None else {"start": start, "steps": 8, "rate": 0.01}
        bundle = taught.teach(folder / "bundle", step.data.local, **how)
        own = {SERIES_TAG: self.series, DAY_TAG: step.name, DATA_TAG: step.digest, FROM_TAG: before or ""}
        with Run.start(config.tracking, config.run_name or "", params={}, tags=own | (tags or {})) as tracked:
            tracked.log_artifacts(bundle, BUNDLE)
            facts: dict[str, Any] = {"registry": config.registry, "description": "taught", "tags": {}}
            register(config.tracking.uri, tracked.run_id, **facts)
        return tracked.run_id


@dataclass
class World:
    """A base, and three days, the second of which has wrong labels; what was published and who was told."""

    home: Path
    published: list[tuple[str, bool]] = field(default_factory=list)
    fail_on: str = ""

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.home}/mlflow.db"

    def daily(self, **pipeline: Any) -> TaughtDaily:
        sources = [f"tracking.uri={self.uri}", "registry.name=ranker"]
        tree = {"judge": {"policy": POLICY}, "publish": {"to": "parquet:features"}} | pipeline
        steps = validate(Pipeline, tree)
        return TaughtDaily(read_config(sources, self.home / "days"), self.home / "days", pipeline=steps)

    def publish(self, data: str, to: str, *, as_of: datetime | None, update: bool) -> None:
        if self.fail_on in data and self.fail_on:
            raise ConfigError([f"{to}: is away"])
        assert as_of is not None or not update
        self.published.append((Path(data).name, update))

    def go(self, *, until: str | None = None, dry_run: bool = False, **pipeline: Any) -> tuple[dict[str, Any], str]:
        console = Console(file=io.StringIO(), width=200)
        last = None if until is None else date.fromisoformat(until)
        facts = run(self.daily(**pipeline), console, until=last, dry_run=dry_run, publish=self.publish)
        return facts, console.file.getvalue()  # type: ignore[attr-defined]

    @property
    def champion(self) -> str:
        """Day of the champion's run."""
        client = connect(self.uri)
        run_id = client.get_model_version_by_alias("ranker", "champion").run_id
        assert run_id is not None
        return client.get_run(run_id).data.tags[DAY_TAG]

    def runs(self) -> dict[str, Any]:
        """Return the finished runs by name, each of which is there once."""
        client = connect(self.uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, "attributes.status = 'FINISHED'")
        assert len({one.info.run_name for one in found}) == len(found), "nothing was done twice"
        return {one.info.run_name: one for one in found}


def decisions(facts: dict[str, Any]) -> dict[str, str]:
    return {day["day"]: day.get("decision", "-") for day in facts["days"]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("pipeline")
    days.write_days(home / "days", 3, rows=2000, base_rows=2000, hold_out=0.3, wrong=2)
    connect(f"sqlite:///{home}/mlflow.db", create=True)
    return home


@pytest.fixture
def world(prepared: Path, tmp_path: Path) -> World:
    (tmp_path / "days").symlink_to(prepared / "days")
    (tmp_path / "mlflow.db").write_bytes((prepared / "mlflow.db").read_bytes())  # a new one is migrated for seconds
    return World(tmp_path)


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on loopback that writes down what it is told; its address, and the messages."""
    messages: list[dict[str, Any]] = []

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", messages
        server.shutdown()
        thread.join()


def test_a_bad_day_reaches_neither_champion_nor_the_days_after(
    world: World, told: tuple[str, list[dict[str, Any]]]
) -> None:
    url, messages = told
    facts, text = world.go(notify={"url": url})
    assert decisions(facts) == {"base": "promote", FIRST: "promote", SECOND: "reject", THIRD: "promote"}
    assert world.champion == THIRD
    assert "publish: left out, since what was learnt from the day was rejected" in text
    assert world.published == [("base", False), (FIRST, True), (THIRD, True)]
    assert [(m["day"], m["state"], m["version"], m["champion"]) for m in messages] == [
        ("base", "promote", 1, 1), (FIRST, "promote", 2, 2), (SECOND, "reject", 3, 2), (THIRD, "promote", 4, 4),
    ]  # fmt: skip
    assert messages[2]["text"].startswith(f"daily {SECOND}: ranker: rejected against version 2 on ")

    runs = world.runs()
    assert runs[f"daily-{THIRD}"].data.tags[FROM_TAG] == f"runs:/{runs[f'daily-{FIRST}'].info.run_id}/bundle"
    parents = {name: one for name, one in runs.items() if name.endswith("-pipeline")}
    assert len(parents) == 4
    for day, steps in ((FIRST, {"", "-judge", "-publish", "-notify"}), (SECOND, {"", "-judge", "-notify"})):
        parent = parents[f"daily-{day}-pipeline"].info.run_id
        children = {name for name, one in runs.items() if one.data.tags.get(PARENT) == parent}
        assert children == {f"daily-{day}{step}" for step in steps}
    judged = runs[f"daily-{THIRD}-judge"]
    assert judged.data.params["rows"].count("valid") == 3
    assert SECOND not in judged.data.params["rows"], "wrong labels are no judge"
    assert judged.data.metrics["judge/click auc/low"] > -0.05
    assert parents[f"daily-{SECOND}-pipeline"].data.tags["policy.decision"] == "reject"
    assert "notify.url" not in parents[f"daily-{SECOND}-pipeline"].data.params

    again, _ = world.go(notify={"url": url})
    assert decisions(again) == decisions(facts)
    assert {day["state"] for day in again["days"]} == {"learnt before"}
    assert (len(messages), len(world.published), len(world.runs())) == (4, 3, len(runs))


def test_a_day_that_was_stopped_goes_on_where_it_was_and_leaves_the_champion_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.go(until=FIRST)
    world.fail_on = SECOND  # never comes to that: the day is rejected first

    def stopped(*_: object) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched:
        patched.setattr(daily_verdict, "settle", stopped)
        with pytest.raises(OSError, match="the power went"):
            world.go(until=SECOND)
    assert world.champion == FIRST
    trained = world.runs()[f"daily-{SECOND}"]
    assert world.daily().plan().steps[2].state == "begun"
    facts, text = world.go(until=SECOND)
    assert decisions(facts)[SECOND] == "reject"
    assert world.runs()[f"daily-{SECOND}"].info.run_id == trained.info.run_id
    assert world.champion == FIRST
    world.fail_on = THIRD
    with pytest.raises(ConfigError, match="parquet:features: is away"):
        world.go()
    assert world.champion == THIRD
    world.fail_on = ""
    facts, text = world.go()
    assert decisions(facts)[THIRD] == "promote"
    assert "judge: done before" in text
    assert world.published[-1] == (THIRD, True)
    assert aliases(world.uri, "ranker") == {"challenger": 4, "champion": 4}


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(world: World) -> None:
    _, text = world.go(dry_run=True)
    assert f"{FIRST}: would train, judge, publish" in text
    assert world.runs() == {}
    assert world.published == []


def test_a_promotion_is_not_made_again_and_a_series_leaves_what_was_rolled_back(world: World) -> None:
    world.go(until=FIRST)
    line = world.runs()[f"daily-{FIRST}-judge"].data.tags["policy.verdict"]
    client = connect(world.uri)
    judged, parent = (world.runs()[f"daily-{FIRST}{name}"].info.run_id for name in ("-judge", "-pipeline"))
    for stopped in (judged, parent):
        client.set_terminated(stopped, "KILLED")
    facts, _ = world.go(until=FIRST)
    assert facts["days"][1]["verdict"] == line
    assert world.runs()[f"daily-{FIRST}-judge"].data.tags["policy.verdict"] == line
    assert aliases(world.uri, "ranker")["champion"] == 2

    roll_back("ranker", Console(file=io.StringIO()), tracking_uri=world.uri)
    assert world.champion == "base"
    world.go(until=SECOND)
    runs = world.runs()
    assert runs[f"daily-{SECOND}"].data.tags[FROM_TAG] == f"runs:/{runs['daily-base'].info.run_id}/bundle"


def test_nobody_is_left_without_a_word_of_a_failure_and_a_word_that_fails_stops_nothing(
    world: World, told: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, messages = told
    world.fail_on = "base"
    writes = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    command = [sys.executable, "-c", writes, str(tmp_path / "told.json")]
    with pytest.raises(ConfigError):
        world.go(until=FIRST, notify={"url": url, "command": command})
    assert [(m["state"], m["problem"]) for m in messages] == [("failed", "parquet:features: is away")]
    assert json.loads((tmp_path / "told.json").read_text()) == messages[0]
    world.fail_on = ""
    deaf = {"url": "http://127.0.0.1:9", "command": [sys.executable, "-c", "import sys; sys.exit('no')"]}
    facts, text = world.go(until=FIRST, notify=deaf | {"timeout_s": 5})
    assert decisions(facts) == {"base": "promote", FIRST: "promote"}
    assert "notify.url: " in text
    assert "ended with exit code 1: no" in text
    assert len(world.runs()) == 10, "two days, each with its training and three steps"


def test_days_that_cannot_be_judged_are_refused_before_anything_starts(tmp_path: Path, prepared: Path) -> None:
    days.write_days(tmp_path / "days", 1, rows=40)
    (tmp_path / "mlflow.db").write_bytes((prepared / "mlflow.db").read_bytes())
    with pytest.raises(ConfigError, match=f"{FIRST}: no rows are held out to judge by: prepare it with --hold-out"):
        World(tmp_path).go()


def test_days_are_prepared_when_their_files_are_there(tmp_path: Path, prepared: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "mlflow.db").write_bytes((prepared / "mlflow.db").read_bytes())
    builders.prepared(tmp_path / "days" / "base", rows=600)
    split = {"kind": "fraction", "valid": 0.1, "test": 0.1}
    table = builders.schema().model_dump(mode="json") | {"split": split}
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(table))
    source = {"schema_file": str(tmp_path / "schema.yaml"), "source": str(tmp_path / "logs" / "{day}.parquet")}
    (tmp_path / "logs").mkdir()
    for number, day in enumerate((FIRST, SECOND)):
        pq.write_table(builders.raw_table(600, 50 + number), tmp_path / "logs" / f"{day}.parquet")
    anything = POLICY | {"objective": {"margin": -0.9}}
    options: dict[str, Any] = {"prepare": source | {"hold_out": 0.3}, "judge": {"policy": anything}}
    _, text = world.go(dry_run=True, **options)
    assert f"{FIRST}: would prepare, train, judge, publish" in text
    assert not (tmp_path / "days" / FIRST).exists()
    facts, _ = world.go(until=FIRST, **options)
    assert [(day["day"], day["state"], day["rows"]) for day in facts["days"]] == [
        ("base", "learnt now", 600), (FIRST, "learnt now", 600),
    ]  # fmt: skip
    assert day_facts(tmp_path / "days" / FIRST).held_out > 0
    assert set(world.runs()) >= {f"daily-{FIRST}-prepare", f"daily-{FIRST}-judge"}
    facts, _ = world.go(**options)
    assert [day["state"] for day in facts["days"]] == ["learnt before", "learnt before", "learnt now"]
    assert FIRST in world.runs()[f"daily-{SECOND}-judge"].data.params["rows"]
