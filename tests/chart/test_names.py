"""What refers to something refers to something that is there, or that a user is told to make."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart import charts
from tests.chart.charts import VALUES, Manifest
from tests.chart.test_security import selects

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
LONGEST = {"RayJob": 47, "RayCluster": 53, "CronJob": 52, "Service": 63, "Deployment": 63}


def selector_of(manifest: Manifest) -> dict[str, str]:
    """Return what a Service, a Deployment or a budget selects pods by."""
    selector = manifest["spec"]["selector"]
    labels: dict[str, str] = selector.get("matchLabels", selector)
    return labels


@pytest.mark.parametrize("case", VALUES)
def test_names_are_ones_that_kubernetes_and_kuberay_take(case: str) -> None:
    for manifest in charts.objects(case):
        name = manifest["metadata"]["name"]
        assert DNS_1035.fullmatch(name), charts.name_of(manifest)
        assert len(name) <= LONGEST.get(manifest["kind"], 63), charts.name_of(manifest)
        assert manifest["metadata"]["namespace"] == charts.NAMESPACE, charts.name_of(manifest)
        for key, value in manifest["metadata"]["labels"].items():
            assert LABEL.fullmatch(value), f"{charts.name_of(manifest)} {key}"
            assert len(value) <= 63, f"{charts.name_of(manifest)} {key}"


def test_the_longest_names_use_what_there_is() -> None:
    longest = max(len(m["metadata"]["name"]) for m in charts.of_kind(charts.objects("everything"), "RayJob"))
    assert longest == LONGEST["RayJob"]


@pytest.mark.parametrize("case", VALUES)
def test_a_selector_takes_the_pods_of_one_component(case: str) -> None:
    manifests = charts.objects(case)
    for manifest in charts.of_kind(manifests, "Deployment", "Service", "PodDisruptionBudget"):
        component = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        taken = {name for name, pod in charts.pods(manifests).items() if selects(selector_of(manifest), pod)}
        assert taken == {
            f"Deployment/{charts.RELEASE if case != 'everything' else release(manifests)}-{component}.template"
        }


def release(manifests: tuple[Manifest, ...]) -> str:
    """Return what all names begin with."""
    return str(charts.one(manifests, "ConfigMap", "training")["metadata"]["name"]).removesuffix("-training")


@pytest.mark.parametrize("case", VALUES)
def test_a_port_s_name_is_one_of_the_container(case: str) -> None:
    manifests = charts.objects(case)
    services = {m["metadata"]["name"]: m for m in charts.of_kind(manifests, "Service")}
    for service in services.values():
        (pod,) = [pod for pod in charts.pods(manifests).values() if selects(selector_of(service), pod)]
        names = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for ingress in charts.of_kind(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                ports = {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
                assert backend["port"]["name"] in ports


def test_monitors_and_scalers_find_the_ranking_api() -> None:
    for case in ("everything", "aws-s3"):
        manifests = charts.objects(case)
        (monitor,) = charts.of_kind(manifests, "ServiceMonitor")
        service = charts.one(manifests, "Service", "serving")
        assert selector_of(monitor).items() <= service["metadata"]["labels"].items()
        mlflow = charts.one(manifests, "Service", "mlflow")
        assert not selector_of(monitor).items() <= mlflow["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
        for scaler in charts.of_kind(manifests, "HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            deployment = charts.one(manifests, "Deployment", "serving")
            assert target == {
                "apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"]
            }  # fmt: skip
            assert "replicas" not in deployment["spec"]


@pytest.mark.parametrize("case", VALUES)
def test_what_pods_refer_to_is_there(case: str) -> None:
    manifests = charts.objects(case)
    there = {charts.name_of(manifest) for manifest in manifests}
    given = values_of(case)
    for name, pod in charts.pods(manifests).items():
        for reference in references(pod["spec"]):
            kind, _, object_name = reference.partition("/")
            assert reference in there or (kind != "ConfigMap" and object_name in given), f"{name}: {reference}"


def references(spec: Manifest) -> Iterator[str]:
    """Name the objects that a pod needs."""
    yield f"ServiceAccount/{spec['serviceAccountName']}"
    for secret in spec.get("imagePullSecrets", []):
        yield f"Secret/{secret['name']}"
    for volume in spec["volumes"]:
        if "configMap" in volume:
            yield f"ConfigMap/{volume['configMap']['name']}"
        if "secret" in volume:
            yield f"Secret/{volume['secret']['secretName']}"
        if "persistentVolumeClaim" in volume:
            yield f"PersistentVolumeClaim/{volume['persistentVolumeClaim']['claimName']}"
    for container in spec["containers"]:
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"Secret/{variable['valueFrom']['secretKeyRef']['name']}"


def values_of(case: str) -> set[str]:
    """Return every text in the values of a case: the names of what a user makes are among them."""
    found: set[str] = set()
    todo: list[Any] = [yaml.safe_load(file.read_text()) for file in VALUES[case]]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            found.add(node)
        todo += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return found


@pytest.mark.parametrize("case", VALUES)
def test_what_is_mounted_is_a_volume_and_the_other_way_round(case: str) -> None:
    for name, pod in charts.pods(charts.objects(case)).items():
        mounted = {mount["name"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}, name


def test_the_daily_run_is_bound_to_its_role() -> None:
    manifests = charts.objects("aws-s3")
    (role,), (binding,) = charts.of_kind(manifests, "Role"), charts.of_kind(manifests, "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    cron = charts.one(manifests, "CronJob", "daily")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == (cron["serviceAccountName"], charts.NAMESPACE)
