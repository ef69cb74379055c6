import os
import shutil
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl import registry
from recsys_mtl.config import ConfigError, load
from recsys_mtl.registry import RegistryConfig
from recsys_mtl.tracking import MetricLog, Run, TrackingConfig, connect, series, store
from tests.mlflow_server import server

FILES = {"model.yaml": "model: {}", "vocab/item.txt": "1 2 3"}


def trained(tracking: TrackingConfig, folder: Path, files: Mapping[str, str] = FILES) -> str:
    """Finish a run that leaves a bundle; return its id."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with Run.start(tracking, "trained", params={}, tags={}) as run:
        run.log_artifacts(folder, "bundle")
    return run.run_id


def registered(tracking: TrackingConfig, folder: Path, name: str, alias: str = "challenger") -> tuple[str, int]:
    run_id = trained(tracking, folder)
    config = RegistryConfig(name=name, alias=alias)
    version = registry.register(
        tracking.uri, run_id, registry=config, description="AUC 0.7", tags={"fingerprint": "abc"}
    )
    return run_id, version


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_registered_bundle_is_fetched_by_alias_version_and_run(tracking: TrackingConfig, tmp_path: Path) -> None:
    run_id, version = registered(tracking, tmp_path / "bundle", "ranker")
    addresses = ("models:/ranker@challenger", f"models:/ranker/{version}", f"runs:/{run_id}/bundle")
    fetched = [registry.fetch(uri, tracking.uri, into=tmp_path / "cache") for uri in addresses]
    assert [contents(one.path) for one in fetched] == [FILES] * 3
    assert [(one.place.name, one.place.version, one.place.run_id) for one in fetched] == [
        ("ranker", 1, run_id),
        ("ranker", 1, run_id),
        ("trained", None, run_id),
    ]
    assert len({one.path for one in fetched}) == 2
    made = connect(tracking.uri).get_model_version("ranker", str(version))
    assert (made.description, made.tags, made.status) == ("AUC 0.7", {"fingerprint": "abc"}, "READY")


def test_a_copy_is_not_fetched_again(tracking: TrackingConfig, tmp_path: Path) -> None:
    run_id, _ = registered(tracking, tmp_path / "bundle", "cached")
    first = registry.fetch("models:/cached@challenger", tracking.uri, into=tmp_path / "cache")
    shutil.rmtree(store.sqlite_path(tracking.uri).parent / "artifacts" / run_id)
    assert registry.fetch("models:/cached@challenger", tracking.uri, into=tmp_path / "cache") == first
    assert contents(first.path) == FILES


def test_an_alias_that_moved_is_fetched_from_its_new_place(tracking: TrackingConfig, tmp_path: Path) -> None:
    for text in ("old", "new"):
        run_id = trained(tracking, tmp_path / text, {"model.yaml": text})
        registry.register(tracking.uri, run_id, registry=RegistryConfig(name="moved"), description="", tags={})
        fetched = registry.fetch("models:/moved@challenger", tracking.uri, into=tmp_path / "cache")
        assert contents(fetched.path) == {"model.yaml": text}


def test_files_of_an_unfinished_run_are_fetched_anew(tracking: TrackingConfig, tmp_path: Path) -> None:
    run_id = trained(tracking, tmp_path / "bundle")
    client = connect(tracking.uri)
    client.update_run(run_id, status="RUNNING")
    first = registry.fetch(f"runs:/{run_id}/bundle", tracking.uri, into=tmp_path / "cache")
    client.log_text(run_id, "model: {changed: 1}", "bundle/model.yaml")
    second = registry.fetch(f"runs:/{run_id}/bundle", tracking.uri, into=tmp_path / "cache")
    assert first.path == second.path
    assert contents(second.path) == FILES | {"model.yaml": "model: {changed: 1}"}


def test_two_processes_may_fetch_at_once(tracking: TrackingConfig, tmp_path: Path) -> None:
    registered(tracking, tmp_path / "bundle", "shared")
    with ThreadPoolExecutor(4) as pool:
        fetched = list(
            pool.map(lambda _: registry.fetch("models:/shared/1", tracking.uri, into=tmp_path / "cache"), range(4))
        )
    assert len({one.path for one in fetched}) == 1
    assert contents(tmp_path / "cache" / "shared") == {f"{fetched[0].path.name}/{name}": FILES[name] for name in FILES}


def test_copies_that_served_long_ago_are_discarded(tracking: TrackingConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for _ in range(5):
        registered(tracking, tmp_path / "bundle", "old")
    fetched = {n: registry.fetch(f"models:/old/{n}", tracking.uri, into=cache) for n in (4, 1, 5, 2, 3)}
    for age, copy in enumerate(fetched.values()):
        os.utime(copy.path, (age, age))
    used = {fetched[4].path}
    registry.discard_old(fetched[1].place, into=cache, most=3, used=used)  # which serves from now on
    assert {n for n, copy in fetched.items() if copy.path.exists()} == {1, 2, 3, 4}
    registry.discard_old(fetched[1].place, into=cache, most=1, used=())
    assert [path.name for path in (cache / "old").iterdir()] == [fetched[1].path.name]
    assert contents(registry.fetch("models:/old/2", tracking.uri, into=cache).path) == FILES


def test_a_failed_download_leaves_nothing(tracking: TrackingConfig, tmp_path: Path) -> None:
    run_id, _ = registered(tracking, tmp_path / "bundle", "lost")
    shutil.rmtree(store.sqlite_path(tracking.uri).parent / "artifacts" / run_id)
    with pytest.raises(ConfigError, match=r"^models:/lost@challenger: "):
        registry.fetch("models:/lost@challenger", tracking.uri, into=tmp_path / "cache")
    assert list((tmp_path / "cache" / "lost").iterdir()) == []


def test_a_local_directory_is_used_where_it_is(tracking: TrackingConfig, tmp_path: Path) -> None:
    fetched = registry.fetch(str(tmp_path), tracking.uri, into=tmp_path / "cache")
    assert (fetched.path, fetched.place.name, fetched.place.version) == (tmp_path, tmp_path.name, None)


def test_a_registry_that_is_set_up_anew_does_not_serve_old_copies() -> None:
    old, new = (registry.BundlePlace("m", 1, run_id, f"runs:/{run_id}/bundle", True) for run_id in ("a", "b"))
    foreign = registry.BundlePlace("m", 1, None, "s3://bucket/model", True)
    assert len({old.folder, new.folder, foreign.folder}) == 3


def test_a_missing_bundle_is_named_with_what_there_is(tracking: TrackingConfig, tmp_path: Path) -> None:
    registered(tracking, tmp_path / "bundle", "known")
    run_id, _ = registered(tracking, tmp_path / "bundle", "known", alias="champion")
    there = r"aliases: challenger -> 1, champion -> 2; versions: 1, 2$"
    problems = {
        "models:/unknown@champion": r"no registered model 'unknown'; there are: .*known",
        "models:/known@best": rf"model 'known' has no alias 'best'; {there}",
        "models:/known/7": rf"model 'known' has no version 7; {there}",
        "models:/known": r"there is no such bundle; expected models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/",
        "runs:/0123/bundle": r"Run with id=0123 not found",
        f"runs:/{run_id}/nothing": r".*nothing",
        str(tmp_path / "nothing"): r"there is no such bundle; expected .* or a directory",
    }
    for uri, problem in problems.items():
        with pytest.raises(ConfigError, match=f"^{uri}: {problem}"):
            registry.fetch(uri, tracking.uri, into=tmp_path / "cache")


def test_a_run_without_a_bundle_registers_nothing(tracking: TrackingConfig) -> None:
    with Run.start(tracking, "empty", params={}, tags={}) as run:
        pass
    config = RegistryConfig(name="empty")
    with pytest.raises(ConfigError, match=f"run {run.run_id}: it has no files under 'bundle' to register"):
        registry.register(tracking.uri, run.run_id, registry=config, description="", tags={})
    with pytest.raises(ConfigError, match="model 'empty'"):
        registry.aliases(tracking.uri, "empty")


def test_a_run_that_registers_twice_has_one_version(tracking: TrackingConfig, tmp_path: Path) -> None:
    run_id, version = registered(tracking, tmp_path / "bundle", "once")
    config = RegistryConfig(name="once")
    assert registry.register(tracking.uri, run_id, registry=config, description="", tags={}) == version
    assert registry.aliases(tracking.uri, "once") == {"challenger": version}


def test_aliases_move_and_remember_their_way(tracking: TrackingConfig, tmp_path: Path) -> None:
    for _ in range(2):
        registered(tracking, tmp_path / "bundle", "moving")
    moves = [registry.set_alias(tracking.uri, "moving", alias="champion", version=version) for version in (1, 2, 2, 1)]
    assert moves == [None, 1, 2, 2]
    assert registry.aliases(tracking.uri, "moving") == {"challenger": 2, "champion": 1}
    history = registry.alias_moves(tracking.uri, "moving", alias="champion")
    assert [(move.version, move.before) for move in history] == [(1, None), (2, 1), (1, 2)]
    assert registry.alias_moves(tracking.uri, "moving", alias="unheard") == []
    with pytest.raises(ConfigError, match="model 'moving' has no version 9"):
        registry.set_alias(tracking.uri, "moving", alias="champion", version=9)
    assert registry.aliases(tracking.uri, "moving")["champion"] == 1


@given(st.lists(st.integers(1, 4) | st.none(), max_size=12), st.none() | st.integers(1, 4))
def test_the_way_back_is_that_of_a_pile_of_champions(steps: list[int | None], by_hand: int | None) -> None:
    pile: list[int] = []
    moves: list[registry.AliasMove] = []
    for version in steps:  # None goes back
        before = pile[-1] if pile else None
        if version is None and len(pile) > 1:
            pile.pop()
            moves.append(registry.AliasMove(pile[-1], before, "", "", True))
        elif version is not None and version != before:
            pile.append(version)
            moves.append(registry.AliasMove(version, before, "", ""))
    if by_hand is not None and pile[-1:] != [by_hand]:
        pile.append(by_hand)
    if pile:
        assert registry.way_back(moves, pile[-1]) == [version for version in pile[-2::-1] if version != pile[-1]]
    else:
        assert registry.way_back(moves, 1) == []


def test_notes_on_a_version_and_what_there_is(tracking: TrackingConfig, tmp_path: Path) -> None:
    run_id, version = registered(tracking, tmp_path / "bundle", "noted")
    registered(tracking, tmp_path / "bundle", "noted", alias="champion")
    assert registry.version_of_run(tracking.uri, "noted", run_id) == version == 1
    assert registry.version_of_run(tracking.uri, "noted", "0" * 32) is None
    registry.annotate(tracking.uri, "noted", 1, tags={"policy.decision": "keep"}, description="AUC 0.8")
    registry.annotate(tracking.uri, "noted", 1, tags={"more": "x"})
    expected = {"fingerprint": "abc", "policy.decision": "keep", "more": "x"}
    assert registry.describe_version(tracking.uri, "noted", 1) == ("AUC 0.8", expected)
    found = registry.versions(tracking.uri, "noted")
    assert [(one.number, one.aliases) for one in found] == [(1, ("challenger",)), (2, ("champion",))]
    with pytest.raises(ConfigError, match="models:/noted/7"):
        registry.annotate(tracking.uri, "noted", 7, tags={"a": "b"})
    with pytest.raises(ConfigError, match="model 'unheard of'"):
        registry.versions(tracking.uri, "unheard of")


@pytest.mark.parametrize("setting", ["alias=latest", "alias=v12", "alias='my best'", "name=a/b", "name=a@b", "name=''"])
def test_names_that_an_address_cannot_hold_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"^{setting.partition('=')[0]}: "):
        load(RegistryConfig, [setting])


@pytest.mark.slow
def test_everything_works_on_a_tracking_server(
    tracking: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(tracking.uri, create=True)
    shutil.copy(store.sqlite_path(tracking.uri), tmp_path / "mlflow.db")  # a new one would be migrated for seconds
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with server(tmp_path, port) as uri:
        remote = TrackingConfig(uri=uri, experiment="on the server", buffer=str(tmp_path / "unsent"))
        run_id, version = registered(remote, tmp_path / "bundle", "remote")
        with MetricLog(remote, run_id) as log:
            log.log(5, {"valid/is_click/auc": 0.75})
        with MetricLog(remote, run_id) as log:
            log.log(5, {"valid/is_click/auc": 0.25})
        assert [point.value for point in log.client.get_metric_history(run_id, "valid/is_click/auc")] == [0.75]
        assert log.client.get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:")
        fetched = registry.fetch("models:/remote@challenger", uri, into=tmp_path / "cache")
        assert (contents(fetched.path), fetched.place.version) == (FILES, version)
        registry.set_alias(uri, "remote", alias="champion", version=version)
        assert registry.aliases(uri, "remote") == {"challenger": version, "champion": version}
        registered(remote, tmp_path / "bundle", "remote")
        registry.set_alias(uri, "remote", alias="champion", version=2)
        (back,) = registry.way_back(registry.alias_moves(uri, "remote", alias="champion"), 2)
        registry.set_alias(uri, "remote", alias="champion", version=back, is_rollback=True)
        assert registry.way_back(registry.alias_moves(uri, "remote", alias="champion"), back) == []
        registry.annotate(uri, "remote", 2, tags={"policy.decision": "rolled back"}, description="no")
        assert [one.description for one in registry.versions(uri, "remote")] == ["AUC 0.7", "no"]
        parent = {series.PARENT: run_id}
        with Run.start(remote, "child", params={}, tags=parent) as child:
            child.log_metrics({"judge/click auc/low": 0.5})
            assert [run.tags[series.PARENT] for run in series.unfinished_runs(remote, parent)] == [run_id]
        (finished,) = series.finished_runs(remote, parent)
        assert (finished.name, finished.metrics) == ("child", {"judge/click auc/low": 0.5})
        assert series.unfinished_runs(remote, parent) == []
        with pytest.raises(
            ConfigError, match="model 'remote' has no alias 'best'; aliases: challenger -> 2, champion -> 1"
        ):
            registry.describe("models:/remote@best", uri)
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(ConfigError, match="nobody answers there"):
        registry.describe("models:/remote@champion", uri)
