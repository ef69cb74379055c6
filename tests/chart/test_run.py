"""What the chart tells our programs is what they understand: configuration, commands, variables."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pipelines.cli import app
from pipelines.daily import read_config
from pipelines.daily_config import Pipeline
from pipelines.policy import Policy
from pipelines.run import TrainRun
from pipelines.submit import problems_elsewhere
from recsys_mtl.config import load
from serving.settings import PREFIX, Settings, read_settings
from tests.chart import charts
from tests.chart.charts import VALUES, Manifest

PRESETS = "/app/configs/"
"""Where the training image has them."""
RUN, PIPELINE = "/etc/recsys-mtl/run.yaml", "/etc/recsys-mtl/pipeline.yaml"


def arguments(rayjob: Manifest, manifests: tuple[Manifest, ...], folder: Path) -> dict[str, Any]:
    """Parse a job's command as `recsys-mtl` does, with files where they are here."""
    here = {
        PRESETS: f"{charts.ROOT}/pipelines/configs/",
        RUN: f"{folder}/run.yaml",
        PIPELINE: f"{folder}/pipeline.yaml",
    }
    for name, text in charts.one(manifests, "ConfigMap", "training")["data"].items():
        (folder / name).write_text(text.replace(PRESETS, here[PRESETS]))
    program, name, *words = shlex.split(rayjob["spec"]["entrypoint"])
    assert program == "recsys-mtl"
    there = [re.sub("|".join(here), lambda found: here[found[0]], word) for word in words]
    group: Any = typer.main.get_command(app)
    parsed: dict[str, Any] = group.commands[name].make_context(name, there).params
    return parsed


@pytest.mark.parametrize("case", ["cpu-test", "everything"])
def test_a_job_s_configuration_is_a_training_run(case: str, tmp_path: Path) -> None:
    manifests = charts.rendered(*VALUES[case])
    (job,) = charts.of_kind(manifests, "RayJob")
    run = load(TrainRun, arguments(job, manifests, tmp_path)["sources"])
    expected = {"cpu-test": ("/data/demo", "first"), "everything": ("s3://b/a set", "exactly-sixteen1")}
    assert (run.data.path, run.run_name) == expected[case]
    assert run.cluster.address == "auto"
    assert run.tracking.uri == f"http://{charts.one(manifests, 'Service', 'mlflow')['metadata']['name']}:5000"
    assert run.tracking.buffer == "/tmp/unsent"  # where a container with a read-only disk can write
    assert (
        problems_elsewhere(run.model_copy(update={"cluster": run.cluster.model_copy(update={"address": "local"})}))
        == []
    )


@pytest.mark.parametrize("case", ["gpu", "aws-s3", "everything", "training-only"])
def test_a_daily_run_s_configuration_is_a_training_run(case: str, tmp_path: Path) -> None:
    manifests = charts.rendered(*VALUES[case])
    given = arguments(charts.daily_rayjob(manifests), manifests, tmp_path)
    run = read_config(given["sources"], given["days"])
    assert given["days"].startswith("s3://")
    assert run.cluster.address == "auto"
    assert run.trainer.checkpoint.path.startswith("s3://") or run.trainer.checkpoint.every_steps is None
    if case == "everything":
        assert (given["series"], given["optimizer"]) == ("feed", "reset")


def test_a_daily_run_does_what_its_pipeline_says(tmp_path: Path) -> None:
    manifests = charts.rendered(*VALUES["aws-s3"])
    given = arguments(charts.daily_rayjob(manifests), manifests, tmp_path)
    pipeline = load(Pipeline, given["pipeline"])
    assert pipeline.steps == ("train", "judge", "publish", "notify")
    assert pipeline.judge.policy == load(Policy, [f"{charts.ROOT}/pipelines/configs/policy/refresh.yaml"])
    assert pipeline.notify is not None
    (head,) = (one for name, one in charts.containers(charts.objects("aws-s3")).items() if name.endswith("ray-head"))
    assert pipeline.notify.url in {f"${variable['name']}" for variable in head["env"]}


def test_a_daily_run_without_a_pipeline_learns_and_no_more(tmp_path: Path) -> None:
    manifests = charts.rendered(*VALUES["gpu"])
    assert arguments(charts.daily_rayjob(manifests), manifests, tmp_path)["pipeline"] == ()
    assert "pipeline.yaml" not in charts.one(manifests, "ConfigMap", "training")["data"]


def test_a_run_s_fields_go_before_presets_and_keep_their_numbers(tmp_path: Path) -> None:
    manifests = charts.rendered(*VALUES["everything"])
    (job,) = charts.of_kind(manifests, "RayJob")
    run = load(TrainRun, arguments(job, manifests, tmp_path)["sources"])
    assert (run.trainer.batch_size, run.optim.sparse.eps, run.seed) == (1_000_000, 1e-7, 1)
    assert run.model.experts.kind == "home"
    assert run.model.experts.hidden == (64, 32)
    assert run.objective.average_over == "rows"  # of data/kuairand.yaml


def test_without_an_mlflow_of_its_own_the_chart_names_the_users() -> None:
    manifests = charts.rendered(*VALUES["least"])
    tree = yaml.safe_load(charts.one(manifests, "ConfigMap", "training")["data"]["run.yaml"])
    assert tree["tracking"]["uri"] == "https://mlflow.example.com"
    (serving,) = charts.containers(manifests).values()
    assert charts.environment(serving)["RECSYS_MTL_TRACKING_URI"] == "https://mlflow.example.com"
    assert charts.of_kind(manifests, "PersistentVolumeClaim") == []


@pytest.mark.parametrize("case", VALUES)
def test_every_variable_of_ours_is_a_setting(case: str) -> None:
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name, container in charts.containers(charts.objects(case)).items():
        ours = {variable["name"] for variable in container.get("env", []) if variable["name"].startswith(PREFIX)}
        assert ours <= names, name
        assert bool(ours) == (container.get("name") == "serving"), name


@pytest.mark.parametrize("case", [case for case in VALUES if case != "training-only"])
def test_the_service_takes_its_settings(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (serving,) = [c for c in charts.containers(charts.objects(case)).values() if c.get("name") == "serving"]
    for name, value in charts.environment(serving).items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert (settings.host, settings.port) == ("0.0.0.0", serving["ports"][0]["containerPort"])
    assert str(settings.cache_dir) in {mount["mountPath"] for mount in serving["volumeMounts"]}
    if settings.api_keys_file is not None:
        assert str(settings.api_keys_file.parent) in {mount["mountPath"] for mount in serving["volumeMounts"]}
    if case == "everything":
        assert settings.pinned == ("models:/recsys-mtl/3", "models:/recsys-mtl/4")
        assert (settings.max_body_bytes, settings.challenger_percent, settings.drain_s) == (16_777_216, 2.5, 7.5)
        assert settings.shadow is True


def test_presets_are_those_of_the_image() -> None:
    dockerfile = (charts.ROOT / "docker" / "training.Dockerfile").read_text()
    assert f"COPY pipelines/configs {PRESETS.rstrip('/')}\n" in dockerfile
