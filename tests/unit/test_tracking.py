import ast
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from recsys_mtl.config import ConfigError, load
from recsys_mtl.tracking import MetricLog, Run, TrackingConfig, connect, find_unfinished, store
from recsys_mtl.tracking.errands import Errands
from recsys_mtl.tracking.metric_log import TAG_LENGTH
from recsys_mtl.tracking.ownership import Stopped, is_another, is_gone, owner, stop_signals_raise
from recsys_mtl.tracking.parameters import VALUE_LENGTH, flatten
from recsys_mtl.tracking.provenance import git_commit
from recsys_mtl.tracking.run import OWNER

REPOSITORY = Path(__file__).parents[2]


def status(config: TrackingConfig, run_id: str) -> str:
    return str(connect(config.uri).get_run(run_id).info.status)


def history(config: TrackingConfig, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in connect(config.uri).get_metric_history(run_id, key)]


def in_experiment(tracking: TrackingConfig, name: str) -> TrackingConfig:
    return tracking.model_copy(update={"experiment": name})


@contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run code in a process of its own, and end it at the latest with the block."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command, pipe = [sys.executable, "-c", textwrap.dedent(code), *arguments], subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


WAIT = "import sys; print('up', flush=True); sys.stdin.read()"


# The life of a run


def test_a_finished_run_has_its_parameters_tags_and_files(tracking: TrackingConfig, tmp_path: Path) -> None:
    params = {"model": {"experts": {"kind": "mmoe", "hidden": [128, 64]}}, "seed": 0, "text": "x" * 7000}
    (tmp_path / "bundle" / "vocab").mkdir(parents=True)
    (tmp_path / "bundle" / "vocab" / "item.txt").write_text("1")
    with Run.start(tracking, "whole", params=params, tags={"fingerprint": "abc"}) as run:
        assert status(tracking, run.run_id) == "RUNNING"
        run.log_text("# card", "MODEL_CARD.md")
        run.log_artifacts(tmp_path / "bundle", "bundle")
    record = run.client.get_run(run.run_id)
    assert record.info.status == "FINISHED"
    assert record.data.params | {"text": ""} == {
        "model.experts.kind": "mmoe",
        "model.experts.hidden": "[128, 64]",
        "seed": "0",
        "text": "",
    }
    assert record.data.tags["fingerprint"] == "abc"
    files = Path(record.info.artifact_uri)
    assert files.is_relative_to(store.sqlite_path(tracking.uri).parent)
    assert yaml.safe_load((files / "config.yaml").read_text()) == params
    assert (files / "bundle/vocab/item.txt").read_text() == "1"


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (ValueError("broken"), "FAILED"),
        (SystemExit(2), "FAILED"),
        (SystemExit(0), "FINISHED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(int(signal.SIGTERM)), "KILLED"),  # as Ray's handler exits
        (Stopped(143), "KILLED"),
    ],
)
def test_what_ends_a_run_is_passed_on_and_recorded(tracking: TrackingConfig, error: BaseException, end: str) -> None:
    with pytest.raises(type(error)), Run.start(tracking, "ends", params={}, tags={}) as run:
        raise error
    assert status(tracking, run.run_id) == end


def test_an_end_that_could_not_be_recorded_is_tried_again_at_exit(tracking: TrackingConfig) -> None:
    code = """
        import sys
        from recsys_mtl.tracking import Run, TrackingConfig, UndeliveredError
        def away(*_):
            del run.client.set_terminated
            raise ConnectionError("away")
        try:
            with Run.start(TrackingConfig(uri=sys.argv[1], patience_s=0), "r", params={}, tags={}) as run:
                run.client.set_terminated = away
        except UndeliveredError:
            print(run.run_id, run.client.get_run(run.run_id).info.status)
        """
    with python(code, tracking.uri) as process:
        run_id, before = first_line(process).split()
        assert process.communicate(timeout=60) == ("", "")
    assert (before, status(tracking, run_id)) == ("RUNNING", "FINISHED")


def test_parameters_that_cannot_be_logged_fail_the_run(tracking: TrackingConfig) -> None:
    config = in_experiment(tracking, "bad parameters")
    with pytest.raises(TypeError), Run.start(config, "bad", params={"a": object()}, tags={}):
        pass
    found = find_unfinished(config, "bad")
    assert found is not None
    assert status(config, found) == "FAILED"


RUN = """
    import sys, threading, time
    from recsys_mtl.tracking import Run, TrackingConfig
    def train():
        with Run.start(TrackingConfig(uri=sys.argv[1], experiment=sys.argv[2]), "r", params={}, tags={}) as run:
            print(run.run_id, flush=True)
            time.sleep(60)
    """


@pytest.mark.parametrize(
    ("ending", "signals", "code"),
    [
        ("train()", [signal.SIGTERM], 143),
        # the block of a thread that dies with the process never ends
        ("threading.Thread(target=train, daemon=True).start(); sys.stdin.read()", [], 0),
    ],
    ids=["SIGTERM", "daemon thread"],
)
def test_a_stopped_process_leaves_no_running_run(
    tracking: TrackingConfig, ending: str, signals: list[signal.Signals], code: int
) -> None:
    with python(textwrap.dedent(RUN) + ending, tracking.uri, "stopped") as process:
        run_id = first_line(process)
        assert status(tracking, run_id) == "RUNNING"
        for number in signals:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (code, "")
    assert status(tracking, run_id) == "KILLED"


def test_a_run_whose_process_vanished_is_ended_by_the_next_one(tracking: TrackingConfig) -> None:
    config = in_experiment(tracking, "vanished")
    with python(WAIT) as process:
        pass
    gone = owner().replace(f"{os.getpid()} ", f"{process.pid} ", 1)
    client = connect(config.uri, create=True)
    experiment = client.create_experiment("vanished")
    orphan, other = (client.create_run(experiment, tags={OWNER: tag}).info.run_id for tag in (gone, owner()))
    with Run.start(config, "next", params={}, tags={}):
        assert [status(config, run_id) for run_id in (orphan, other)] == ["KILLED", "RUNNING"]


# Resuming


def failed(config: TrackingConfig, name: str) -> str:
    with pytest.raises(KeyError), Run.start(config, name, params={"steps": 1}, tags={}) as run:
        raise KeyError
    return run.run_id


def test_the_newest_unfinished_run_of_a_name_is_resumed_and_finished(tracking: TrackingConfig) -> None:
    config = in_experiment(tracking, "resuming")
    assert find_unfinished(config, "nightly") is None
    _, second, other = (failed(config, name) for name in ("nightly", "nightly", "it's another"))
    newest = find_unfinished(config, "nightly")
    assert newest == second
    assert find_unfinished(config, "it's another") == other
    with Run.resume(config, newest, params={"steps": 2, "seed": 0}) as resumed:
        assert status(config, newest) == "RUNNING"
    record = resumed.client.get_run(newest)
    assert record.info.status == "FINISHED"
    assert record.data.params == {"steps": "1", "seed": "0"}
    assert record.data.tags["recsys_mtl.resumes"] == "1"
    assert record.data.tags["recsys_mtl.resumes.changed"] == "steps: 1 -> 2"
    assert find_unfinished(config, "nightly") not in {None, newest}
    with pytest.raises(ConfigError, match="run_name: run 'nightly' is finished"), Run.resume(config, newest, params={}):
        pass


def test_a_run_that_another_process_trains_cannot_be_resumed(tracking: TrackingConfig) -> None:
    run_id = failed(tracking, "busy")
    client = connect(tracking.uri)
    with python(WAIT) as process:
        assert first_line(process) == "up"
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        client.set_tag(run_id, OWNER, " ".join([str(process.pid), started, *owner().split()[2:]]))
        client.update_run(run_id, status="RUNNING")
        with pytest.raises(ConfigError, match=f"process {process.pid} is training run 'busy'"):
            Run.resume(tracking, run_id, params={}).__enter__()
    with Run.resume(tracking, run_id, params={}):
        pass
    assert status(tracking, run_id) == "FINISHED"


# Metrics


@pytest.fixture(scope="module")
def run(tracking: TrackingConfig) -> Run:
    with Run.start(tracking, "metrics", params={}, tags={}) as run:
        pass
    return run


def test_steps_that_are_logged_again_after_a_resume_stay_one_point(tracking: TrackingConfig, run: Run) -> None:
    with MetricLog(tracking, run.run_id) as log:
        for step in range(4):
            log.log(step, {"again": step / 2})
            log.log(step, {"again": 99.0})
    with MetricLog(tracking, run.run_id) as log:
        for step in range(2, 6):
            log.log(step, {"again": step / 2, "new": 1.0})
    assert history(tracking, run.run_id, "again") == [(step, step / 2) for step in range(6)]
    assert [step for step, _ in history(tracking, run.run_id, "new")] == [2, 3, 4, 5]


DIES = """
    import os, signal, sys, time
    from recsys_mtl.tracking import MetricLog, TrackingConfig
    log = MetricLog(TrackingConfig(uri=sys.argv[1]), sys.argv[2], flush_seconds=0)
    log.log(10, {"late": 0.5})
    log._outbox._sending.result()
    log._outbox._every_seconds = 1000
    log._errands.put("slow", lambda: time.sleep(1000))  # what comes after it waits
    log.log(20, {"late": 0.4})
    log.log_rows("late.json", [{"step": 20, "value": 1.5}], key=("step",))
    log.keep_text("late.txt", "too late?")
    with log.new_files() as folder:
        (folder / "made.txt").write_text("whole")
    with log.new_files() as folder:
        (folder / "made.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    """


def test_what_a_killed_process_had_not_sent_is_sent_by_the_next_one(tracking: TrackingConfig, run: Run) -> None:
    with python(DIES, tracking.uri, run.run_id) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert history(tracking, run.run_id, "late") == [(10, 0.5)]
    with MetricLog(tracking, run.run_id) as log:
        log.log(20, {"late": 99.0})  # measured again, as a resumed run does
        log.log(30, {"late": 0.3})
    assert history(tracking, run.run_id, "late") == [(10, 0.5), (20, 0.4), (30, 0.3)]
    assert stored(run, "late.json") == [{"step": 20, "value": 1.5}]
    assert (mlflow_text(run, "late.txt"), mlflow_text(run, "made.txt")) == ("too late?", "whole")
    assert not tracking.folder(run.run_id).exists()


def test_a_checkpoint_brings_what_was_unsent_to_a_machine_without_the_folder(
    tracking: TrackingConfig, run: Run, tmp_path: Path
) -> None:
    elsewhere = tracking.model_copy(update={"buffer": str(tmp_path / "elsewhere")})
    lost = MetricLog(elsewhere, run.run_id, flush_seconds=1000)
    lost.log(10, {"carried": 0.5})
    lost.log(20, {"carried": 0.4})
    lost.log_rows("carried.json", [{"step": 20, "value": 1.5}], key=("step",))
    unsent = json.loads(json.dumps(lost.unsent()))
    for _ in range(2):
        with MetricLog(tracking, run.run_id) as log:
            log.resend(unsent)
            log.resend(unsent)
        assert history(tracking, run.run_id, "carried") == [(10, 0.5), (20, 0.4)]
    assert stored(run, "carried.json") == [{"step": 20, "value": 1.5}]


def test_values_that_no_chart_can_show_are_counted(tracking: TrackingConfig, run: Run) -> None:
    with MetricLog(tracking, run.run_id) as log:
        log.log(1, {"gap": float("nan"), "high": float("inf"), "fine": 0.5})
        log.log(2, {"gap": float("nan")})
        log.log(3, {"gap": 0.25})
    assert log.skipped == {"gap": 2, "high": 1}
    assert history(tracking, run.run_id, "gap") == [(3, 0.25)]
    assert history(tracking, run.run_id, "fine") == [(1, 0.5)]
    assert run.client.get_run(run.run_id).data.tags["metrics_not_finite"] == "gap: 2\nhigh: 1"


def test_more_points_than_fit_into_a_request_arrive(tracking: TrackingConfig, run: Run) -> None:
    with MetricLog(tracking, run.run_id) as log:
        for step in range(350):
            log.log(step, {f"many/{key}": step + key for key in range(7)})
    for key in (0, 6):
        assert history(tracking, run.run_id, f"many/{key}") == [(step, step + key) for step in range(350)]


def test_a_worker_that_fails_shows_its_own_error(tracking: TrackingConfig) -> None:
    with Run.start(tracking, "refused", params={}, tags={}) as run:
        pass
    refused = {"name that MLflow refuses: !": 1.0}
    with pytest.raises(ZeroDivisionError), MetricLog(tracking, run.run_id) as log:
        log.log(0, {**refused, "loss": 1 / 0})
    with pytest.raises(MlflowException, match="name that MLflow refuses"), MetricLog(tracking, run.run_id) as log:
        log.log(0, refused)


# Tables and tags


def stored(run: Run, path: str) -> list[dict[str, Any]]:
    table = json.loads(mlflow_text(run, path))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def mlflow_text(run: Run, path: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        return Path(run.client.download_artifacts(run.run_id, path, directory)).read_text()


KEY = ("split", "step")


def test_a_table_grows_by_measurements_and_a_resumed_run_replaces_its_own(tracking: TrackingConfig, run: Run) -> None:
    def rows(step: int, value: float) -> list[dict[str, Any]]:
        return [{"split": "valid", "step": step, "expert": name, "sd": value} for name in ("a", "b")]

    with MetricLog(tracking, run.run_id) as log:
        log.log_rows("health/growing.json", rows(10, 1.0), key=KEY)
        log.log_rows("health/growing.json", rows(20, float("nan")), key=KEY)
    found = stored(run, "health/growing.json")
    assert [(row["step"], row["expert"], row["sd"]) for row in found] == [
        *((10, "a", 1.0), (10, "b", 1.0)),
        *((20, "a", None), (20, "b", None)),
    ]
    with MetricLog(tracking, run.run_id) as log:  # the run went on from step 10
        log.log_rows("health/growing.json", rows(20, 3.0), key=KEY)
        log.log_rows("health/growing.json", [{**row, "new": True} for row in rows(30, 4.0)], key=KEY)
    found = stored(run, "health/growing.json")
    assert [(row["step"], row["sd"]) for row in found[::2]] == [(10, 1.0), (20, 3.0), (30, 4.0)]
    assert [row["new"] for row in found] == [None] * 4 + [True] * 2


def test_mlflow_shows_the_tables_of_a_run(tracking: TrackingConfig, run: Run) -> None:
    with MetricLog(tracking, run.run_id) as log:
        log.log_rows("health/one.json", [{"split": "valid", "step": 1, "x": 0.5}], key=KEY)
        log.log_rows("health/two.json", [{"split": "valid", "step": 1, "x": 1.5}], key=KEY)
        log.log_rows("health/none.json", [], key=KEY)
    shown = json.loads(run.client.get_run(run.run_id).data.tags["mlflow.loggedArtifacts"])
    assert {"path": "health/one.json", "type": "table"} in shown
    assert {"path": "health/two.json", "type": "table"} in shown
    assert len({table["path"] for table in shown}) == len(shown)
    wanted = 'tags.mlflow.loggedArtifacts LIKE \'%"path"%:%"health/two.json",%"type"%:%"table"%\''
    experiment = run.client.get_run(run.run_id).info.experiment_id
    assert [found.info.run_id for found in run.client.search_runs([experiment], wanted)] == [run.run_id]
    assert stored(run, "health/two.json") == [{"split": "valid", "step": 1, "x": 1.5}]
    assert "health/none.json" not in {file.path for file in run.client.list_artifacts(run.run_id, "health")}


def test_long_tags_are_cut(tracking: TrackingConfig, run: Run) -> None:
    with MetricLog(tracking, run.run_id) as log:
        log.tag({"health": "ok", "health.alarms": "old"})
        log.tag({"health": "collapse", "health.alarms": "x" * 9000})
    found = run.client.get_run(run.run_id).data.tags
    assert found["health"] == "collapse"
    assert found["health.alarms"] == "x" * (TAG_LENGTH - 1) + "…"


def test_of_errands_with_one_name_the_newest_is_done() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def first() -> None:
        begun.set()
        assert go_on.wait(30)
        done.append("first")

    errands = Errands()
    errands.put("table", first)
    assert begun.wait(30)
    for text in ("second", "third"):
        errands.put("table", partial(done.append, text))
    errands.put("tags", partial(done.append, "tags"))
    assert done == []  # nobody waited
    go_on.set()
    errands.close()
    assert done == ["first", "third", "tags"]


def test_an_errand_that_fails_is_tried_again_and_only_close_raises(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[str] = []

    def fails_first() -> None:
        tries.append("table")
        if len(tries) == 1:
            raise ConnectionError("server is away")

    errands = Errands()
    errands.put("table", fails_first)
    errands.close()
    assert tries == ["table", "table"]
    assert "1 tables or tags wait: the tracking server did not take them: server is away" in caplog.text

    def fails() -> None:
        raise ConnectionError("server is gone")

    errands = Errands()
    errands.put("table", fails)
    with pytest.raises(ConnectionError, match="server is gone"):
        errands.close()


# Addresses


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("./mlruns", "is a folder"),
        ("file:///data/mlruns", "is a folder"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("htp://server", "is no store that MLflow knows"),
    ],
)
def test_a_store_that_mlflow_does_not_write_to_is_refused_with_the_fix(uri: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^uri: '{uri}' {problem}.*: use a SQLite file sqlite:///mlruns/mlflow.db"):
        load(TrackingConfig, [f"uri='{uri}'"])


@pytest.mark.parametrize(
    "uri", ["http://mlflow:5000", "databricks", "databricks://x", "postgresql+psycopg2://u:p@h/db"]
)
def test_other_stores_are_left_as_they_are(uri: str) -> None:
    assert load(TrackingConfig, [f"uri={uri}"]).absolute_uri == uri


def test_a_sqlite_file_means_the_same_from_every_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert TrackingConfig().absolute_uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert TrackingConfig(uri="sqlite:///a.db?timeout=3").absolute_uri == f"sqlite:///{tmp_path}/a.db?timeout=3"
    assert TrackingConfig().ui == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert TrackingConfig(uri="https://me:secret@mlflow").ui == "https://***@mlflow"


def test_stores_that_cannot_be_used_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.6)
    (tmp_path / "junk.db").write_text("not a database, whatever its name says" * 50)
    (tmp_path / "file").touch()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}"
        problems = {
            f"sqlite:///{tmp_path}/none.db": "none.db: no such tracking database on this machine",
            f"sqlite:///{tmp_path}/junk.db": "junk.db: not usable as a tracking database: file is not a database",
            closed: r"http://\*\*\*@127.0.0.1:\d+: nobody answers there: Connection refused",
        }
        for uri, problem in problems.items():
            with pytest.raises(ConfigError, match=problem):
                connect(uri)
    with pytest.raises(ConfigError, match=r"file/a\.db: not usable as a tracking database"):
        connect(f"sqlite:///{tmp_path}/file/a.db", create=True)
    assert not (tmp_path / "none.db").exists()


# Parameters, origins, owners


def rebuild(flat: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, text in flat.items():
        *parents, leaf = path.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = ast.literal_eval(text)
    return tree


def mappings(values: st.SearchStrategy[Any], min_size: int = 1) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text("ab_", min_size=1, max_size=3), values, min_size=min_size, max_size=3)


LEAVES = st.integers() | st.lists(st.integers(), max_size=3)


@given(mappings(LEAVES | mappings(LEAVES | mappings(LEAVES)), min_size=0))
def test_flat_parameters_hold_the_whole_tree(tree: dict[str, Any]) -> None:
    assert rebuild(flatten(tree)) == tree


def test_parameters_are_cut_cleaned_and_free_of_passwords() -> None:
    flat = flatten({"a": {"b@c": "x" * 9000, "d": {}, "e": None}, "uri": "postgresql://me:secret@host/db"})
    assert flat == {
        "a.b_c": "x" * (VALUE_LENGTH - 1) + "…",
        "a.d": "{}",
        "a.e": "null",
        "uri": "postgresql://***@host/db",
    }


def test_the_commit_says_whether_files_were_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert git_commit(tmp_path) is None
    git("init", "-q")
    assert git_commit(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    git("tag", "v1")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


def test_owners_know_the_dead_from_the_living_and_from_other_machines() -> None:
    me = owner()
    pid, started, scope, host = me.split(" ", 3)
    assert (is_gone(me), is_another(me)) == (False, False)
    assert is_gone(f"{pid} {int(started) - 1} {scope} {host}")
    parent = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
    assert is_another(f"{os.getppid()} {parent} {scope} {host}")
    elsewhere = f"{pid} {int(started) - 1} {scope}0 {host}"
    assert (is_gone(elsewhere), is_another(elsewhere)) == (False, False)


def test_handlers_of_others_stay_and_ours_do_not() -> None:
    def theirs(*_: object) -> None:
        raise AssertionError

    before, stop = signal.signal(signal.SIGHUP, theirs), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with stop_signals_raise():
            assert signal.getsignal(signal.SIGHUP) is theirs
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # which would end the test program
            with pytest.raises(Stopped) as stopped:
                signal.raise_signal(signal.SIGTERM)
        assert stopped.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, stop)


def test_importing_does_not_pay_for_mlflow() -> None:
    with python(
        "import sys, recsys_mtl.registry, recsys_mtl.tracking; print({'mlflow', 'torch'} & {*sys.modules})"
    ) as process:
        assert process.communicate(timeout=60) == ("set()\n", "")
