"""What helm makes of several sets of values is what Kubernetes, KubeRay and Prometheus' operator take."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.chart import charts
from tests.chart.charts import NEWEST, OLDEST, VALUES
from tests.chart.manifests import nulls, problems

KINDS = {
    "defaults": {"Deployment", "Service", "ConfigMap", "HorizontalPodAutoscaler", "PodDisruptionBudget"},
    "everything": {"RayCluster", "RayJob", "CronJob", "Ingress", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"},
}


@pytest.mark.parametrize("case", VALUES)
def test_helm_finds_nothing_to_criticise(case: str) -> None:
    files = [f"--values={file}" for file in VALUES[case]]
    done = charts.helm("lint", "--strict", charts.CHART, *files)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("case", VALUES)
def test_every_object_is_one_that_the_server_takes(case: str, version: str) -> None:
    for manifest in charts.objects(case):
        assert problems(manifest, version) == [], charts.name_of(manifest)
        assert list(nulls(manifest)) == [], charts.name_of(manifest)


@pytest.mark.parametrize("case", KINDS)
def test_every_part_is_there(case: str) -> None:
    assert {manifest["kind"] for manifest in charts.objects(case)} >= KINDS[case]


def test_the_server_would_refuse_what_is_wrong() -> None:
    """The validation can fail: a field too many, one too few, one of another type, in our kinds and in theirs."""
    manifests = charts.objects("everything")
    for kind, path, value in (
        ("Deployment", ("spec", "template", "spec", "containers", 0, "livenes"), {}),
        ("Deployment", ("spec", "selector"), None),
        ("CronJob", ("spec", "suspend"), "perhaps"),
        ("RayJob", ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "container"), []),
        ("RayJob", ("spec", "rayClusterSpec", "headGroupSpec"), None),
        ("RayCluster", ("spec", "workerGroupSpecs", 0, "replicas"), "two"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "expression"), "1"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "often"),
    ):
        broken = changed(charts.of_kind(manifests, kind)[0], path, value)
        assert problems(broken, NEWEST), f"{kind} {path}"


def changed(node: Any, path: tuple[str | int, ...], value: object) -> Any:
    """Copy a tree with another value, or with none, at a place."""
    key, *rest = path
    if isinstance(node, list):
        return [changed(child, tuple(rest), value) if i == key else child for i, child in enumerate(node)]
    if rest:
        return {**node, key: changed(node[key], tuple(rest), value)}
    return {k: v for k, v in node.items() if k != key} | ({} if value is None else {key: value})


def test_nothing_is_made_twice() -> None:
    for case in VALUES:
        names = [(manifest["apiVersion"], charts.name_of(manifest)) for manifest in charts.objects(case)]
        assert len(names) == len(set(names)), case


def test_an_older_kubernetes_is_refused() -> None:
    done = charts.template(version="1.30.0")
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


def test_the_chart_and_its_images_have_the_project_s_version() -> None:
    version = re.search(r'^version = "(.*)"$', (charts.ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    chart = charts.helm("show", "chart", charts.CHART).stdout
    assert version is not None
    assert f"appVersion: {version[1]}" in chart
    (image,) = {c["image"] for c in charts.containers(charts.objects("defaults")).values() if "serving" in c["image"]}
    assert image == f"recsys-mtl-serving:{version[1]}"


def test_the_packed_chart_is_the_chart(tmp_path: Path) -> None:
    assert charts.helm("package", charts.CHART, "--destination", tmp_path).returncode == 0
    (package,) = tmp_path.glob("recsys-mtl-*.tgz")
    done = charts.helm("template", charts.RELEASE, package, "--namespace", charts.NAMESPACE)
    assert done.returncode == 0, done.stderr
    assert "kind: Deployment" in done.stdout
