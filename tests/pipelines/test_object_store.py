"""Everything in an object store: data, files of runs, bundles. No local data directory, no local artifacts."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipelines.cli import app
from recsys_mtl.bundle import Bundle
from recsys_mtl.registry import fetch
from recsys_mtl.storage import locate
from recsys_mtl.tracking.client import connect
from serving.loading import load
from serving.settings import Settings
from tests import builders
from tests.s3 import ObjectStore

SETTINGS = ["trainer.steps=6", "trainer.batch_size=64", "model.bottom.hidden=[8]", "health.enabled=false"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> str:
    """Run a command that must fail as a user error; return what it said."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database without runs, whose tables take seconds to make."""
    path = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    connect(f"sqlite:///{path}", create=True)
    return path


@pytest.fixture
def uri(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracking database in an otherwise empty directory, which commands run in."""
    shutil.copy(database, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_lives_in_an_object_store(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    data, files, bundle = (f"{store.address}/{name}" for name in ("data", "runs", "bundle"))
    prepared = invoke("prepare", "synthetic", "--rows", "2000", "--out", data)
    assert prepared.exit_code == 0, prepared.output
    assert f"prepared {data} in" in prepared.output
    command = ["train", f"data.path={data}", *SETTINGS, "cluster.workers=1", f"tracking.uri={uri}"]
    trained = invoke(*command, f"tracking.artifacts={files}")
    assert trained.exit_code == 0, trained.output
    run_id = trained.output.strip().rpartition("run_id=")[2]
    assert connect(uri).get_run(run_id).info.artifact_uri.startswith(files)
    assert any(name.endswith(f"{run_id}/artifacts/bundle/model.safetensors") for name in store.names("runs"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "unsent"]
    assert not any((tmp_path / "unsent").iterdir()), "nothing waits for a server"

    copy = fetch("models:/recsys-mtl@challenger", uri, into=tmp_path / "cache").path
    for file in (path for path in copy.rglob("*") if path.is_file()):
        (locate(bundle) / str(file.relative_to(copy))).upload(file)
    shutil.rmtree(tmp_path / "cache")
    measured = []
    for model in ("models:/recsys-mtl@challenger", bundle):
        done = invoke("evaluate", "--model", model, "--data", data, "--tracking-uri", uri, "--json", "metrics.json")
        assert done.exit_code == 0, done.output
        measured.append(json.loads(Path("metrics.json").read_text()))
    assert measured[0] == measured[1]
    assert all(task["rows"] > 0 for task in measured[0]["tasks"].values())
    compared = invoke("compare", run_id, bundle, "--replicates", "100", "--tracking-uri", uri)
    assert compared.exit_code == 0, compared.output

    store.stop()
    assert "nobody answers" in refused("evaluate", "--model", str(bundle), "--data", data, "--tracking-uri", uri)


def test_a_bundle_is_served_from_an_object_store(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    builders.prepared(tmp_path / "data", rows=60)
    builders.bundle(tmp_path / "bundle", tmp_path / "data")
    for file in (path for path in (tmp_path / "bundle").rglob("*") if path.is_file()):
        (locate(store.address) / "ranker" / str(file.relative_to(tmp_path / "bundle"))).upload(file)
    settings = Settings(model=f"{store.address}/ranker", tracking_uri=uri, cache_dir=tmp_path / "cache")
    fetched = fetch(settings.model, uri, into=settings.cache_dir)
    loaded = load(fetched.path, fetched.place)
    assert loaded.name.name == "ranker"
    assert loaded.bundle.golden == Bundle.load(tmp_path / "bundle").golden
    (locate(store.address) / "ranker" / "MODEL_CARD.md").write_text("# Changed\n")
    again = fetch(settings.model, uri, into=tmp_path / "cache").path
    assert (again / "MODEL_CARD.md").read_text() == "# Changed\n"


def test_what_is_wrong_with_a_store_is_said_before_anything_starts(store: ObjectStore, uri: str) -> None:
    data = f"{store.address}/data"
    assert "there is no bucket 'other-bucket'" in refused("train", "data.path=s3://other-bucket/data")
    assert f"{data}/spec.yaml: No such file or directory" in refused("train", f"data.path={data}")
    assert "there is no such bundle" in refused("evaluate", "--model", f"{store.address}/x", "--data", data)
    builders.prepared(data, rows=60)
    command = ["train", f"data.path={data}", f"tracking.uri={uri}"]
    assert "there is no bucket" in refused(*command, "tracking.artifacts=s3://other-bucket/runs")
    assert "keeps its files at s3://other-bucket/runs, for good" in refused(*command, f"tracking.artifacts={data}")
    server = refused(*command[:2], "tracking.uri=http://localhost:5000", f"tracking.artifacts={data}")
    assert server.startswith("tracking.artifacts: an MLflow server places the files of runs itself")
    store.admit_after(0)
    try:
        assert "access denied" in refused("train", f"data.path={data}")
    finally:
        store.admit_after(float("inf"))


@pytest.mark.ray
@pytest.mark.faults
def test_a_store_that_vanishes_while_a_run_reads_it_ends_the_run(store: ObjectStore, uri: str) -> None:
    data = f"{store.address}/data"
    builders.prepared(data, rows=400)
    store.stop_at(f"/{store.bucket}/data/train", requests=12)
    said = refused("train", f"data.path={data}", *SETTINGS, "cluster.workers=2", f"tracking.uri={uri}")
    assert f"{data}/train/part-00000.parquet: row group 0 cannot be read: nobody answers" in said


def test_boto3_is_asked_for_where_it_is_needed(store: ObjectStore, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = f"{store.address}/data"
    builders.prepared(data, rows=60)
    monkeypatch.setattr("recsys_mtl.tracking.artifacts.find_spec", lambda _: None)
    said = refused("train", f"data.path={data}", f"tracking.uri={uri}", f"tracking.artifacts={store.address}/runs")
    assert "boto3, which is not installed: pip install 'recsys-mtl[s3]'" in said
