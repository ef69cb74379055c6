"""What must hold for every pod, whatever the values: the restricted standard of Kubernetes, and more."""

import re

import pytest

from tests.chart import charts
from tests.chart.charts import VALUES, Manifest

SECRETIVE = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|_URI$|API_KEYS$")
MAY_TALK_TO_THE_API = {"daily", "ray-head"}
"""What starts the daily run, and Ray's head, whose autoscaler makes pods."""


@pytest.mark.parametrize("case", VALUES)
def test_pods_run_as_nobody_in_particular(case: str) -> None:
    for name, pod in charts.pods(charts.objects(case)).items():
        spec = pod["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert min(context["runAsUser"], context["runAsGroup"], context["fsGroup"]) >= 10000, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys(), name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name


@pytest.mark.parametrize("case", VALUES)
def test_containers_can_write_nowhere_but_where_a_volume_is(case: str) -> None:
    for name, container in charts.containers(charts.objects(case)).items():
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert "privileged" not in context, name
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, name
        if "env" in container:
            assert charts.environment(container)["HOME"] == "/tmp", name


@pytest.mark.parametrize("case", VALUES)
def test_only_those_pods_that_need_it_have_a_token(case: str) -> None:
    for name, pod in charts.pods(charts.objects(case)).items():
        spec = pod["spec"]
        assert spec["enableServiceLinks"] is False, name
        (container, *_) = spec["containers"]
        assert not spec["automountServiceAccountToken"] or container["name"] in MAY_TALK_TO_THE_API, name
    for account in charts.of_kind(charts.objects(case), "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_the_head_of_ray_has_a_token_for_its_autoscaler_only() -> None:
    def tokens(case: str) -> set[bool]:
        heads = [cluster["headGroupSpec"] for cluster in charts.ray_clusters(charts.objects(case))]
        return {head["template"]["spec"]["automountServiceAccountToken"] for head in heads}

    assert (tokens("aws-s3"), tokens("gpu"), tokens("everything")) == ({False}, {True}, {True})


@pytest.mark.parametrize("case", VALUES)
def test_there_are_requests_and_limits(case: str) -> None:
    for name, container in charts.containers(charts.objects(case)).items():
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys() & resources["limits"].keys(), name
        for amount in ("cpu", "memory"):
            assert quantity(resources["requests"][amount]) <= quantity(resources["limits"][amount]), name


def quantity(text: str | float) -> float:
    """Read an amount such as ``500m`` or ``2Gi``."""
    units = {"m": 1e-3, "Mi": 2**20, "Gi": 2**30, "": 1}
    number, unit = re.fullmatch(r"([0-9.]+)(m|Mi|Gi|)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * units[unit]


@pytest.mark.parametrize("case", VALUES)
def test_images_are_pinned(case: str) -> None:
    for name, container in charts.containers(charts.objects(case)).items():
        assert re.search(r"@sha256:[0-9a-f]{64}$|:[^/:]+$", container["image"]), name
        assert not container["image"].endswith(":latest"), name


@pytest.mark.parametrize("case", VALUES)
def test_secrets_are_named_and_never_made(case: str) -> None:
    manifests = charts.objects(case)
    assert charts.of_kind(manifests, "Secret") == []
    for name, container in charts.containers(manifests).items():
        for variable, value in charts.environment(container).items():
            if SECRETIVE.search(variable):
                assert "@" not in value.removeprefix("sqlite:"), f"{name} {variable}"


def test_credentials_come_from_the_secrets_that_the_values_name() -> None:
    found = {
        (variable["name"], reference["name"], reference["key"])
        for container in charts.containers(charts.objects("everything")).values()
        for variable in container.get("env", [])
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert found == {
        ("AWS_ACCESS_KEY_ID", "s3", "AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "s3", "AWS_SECRET_ACCESS_KEY"),
        ("MLFLOW_TRACKING_USERNAME", "mlflow-client", "MLFLOW_TRACKING_USERNAME"),
        ("MLFLOW_TRACKING_PASSWORD", "mlflow-client", "MLFLOW_TRACKING_PASSWORD"),
        ("MLFLOW_TRACKING_TOKEN", "mlflow-client", "MLFLOW_TRACKING_TOKEN"),
    }
    (uri,) = [
        variable["valueFrom"]["secretKeyRef"]
        for container in charts.containers(charts.objects("aws-s3")).values()
        for variable in container.get("env", [])
        if variable["name"] == "MLFLOW_BACKEND_STORE_URI"
    ]
    assert uri == {"name": "recsys-mlflow-db", "key": "uri"}


def test_the_daily_run_may_make_rayjobs_and_nothing_else() -> None:
    for case in ("everything", "aws-s3"):
        (role,) = charts.of_kind(charts.objects(case), "Role")
        assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]
        assert charts.of_kind(charts.objects(case), "ClusterRole", "ClusterRoleBinding") == []


@pytest.mark.parametrize("case", sorted(set(VALUES) - {"least"}))
def test_every_pod_has_a_network_policy(case: str) -> None:
    manifests = charts.objects(case)
    policies = charts.of_kind(manifests, "NetworkPolicy")
    for name, pod in charts.pods(manifests).items():
        matching = [policy for policy in policies if selects(policy["spec"]["podSelector"]["matchLabels"], pod)]
        assert len(matching) == 1, name
        assert matching[0]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def selects(labels: dict[str, str], pod: Manifest) -> bool:
    """Tell whether a selector takes a pod."""
    return bool(labels) and labels.items() <= pod["metadata"]["labels"].items()


def test_ray_s_dashboard_is_open_to_ray_and_to_kuberay_only() -> None:
    policy = charts.one(charts.objects("aws-s3"), "NetworkPolicy", "training")
    own, operator, prometheus = policy["spec"]["ingress"]
    assert own == {"from": [{"podSelector": policy["spec"]["podSelector"]}]}
    (namespace,) = operator["from"]
    assert namespace["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kuberay-operator"}
    assert (operator["ports"], prometheus["ports"]) == ([{"port": 8265}], [{"port": 8080}])
