"""What servers and operators check in code, so that no schema knows it."""

import math
import shlex

import pytest
import yaml

from pipelines.run import ClusterConfig, Elastic
from recsys_mtl.config import validate
from serving.settings import DRAIN_SECONDS
from serving.supervisor import PATIENCE_SECONDS
from tests.chart import charts
from tests.chart.charts import VALUES, Manifest
from tests.chart.test_names import selector_of
from tests.chart.test_security import quantity
from tests.pins import pins

BATCH = "batch.kubernetes.io"


@pytest.mark.parametrize("case", VALUES)
def test_what_kubernetes_checks_of_its_own_kinds(case: str) -> None:
    manifests = charts.objects(case)
    for service in charts.of_kind(manifests, "Service"):
        assert all(1 <= port["port"] <= 65535 for port in service["spec"]["ports"])
        assert service["spec"]["ports"]
    for deployment in charts.of_kind(manifests, "Deployment"):
        pod = deployment["spec"]["template"]
        assert selector_of(deployment)
        assert selector_of(deployment).items() <= pod["metadata"]["labels"].items()
        assert pod["spec"].get("restartPolicy", "Always") == "Always"
    for scaler in charts.of_kind(manifests, "HorizontalPodAutoscaler"):
        assert scaler["spec"]["minReplicas"] <= scaler["spec"]["maxReplicas"]
        assert all(metric[metric["type"].lower()]["target"] for metric in scaler["spec"]["metrics"])
    for name, container in charts.containers(manifests).items():
        assert container["image"], name
        ports = [port["name"] for port in container.get("ports", [])]
        assert len(set(ports)) == len(ports), name
        variables = [variable["name"] for variable in container.get("env", [])]
        assert len(set(variables)) == len(variables), name


@pytest.mark.parametrize("case", VALUES)
def test_a_probe_asks_a_port_that_is_there(case: str) -> None:
    for name, container in charts.containers(charts.objects(case)).items():
        probes = [
            container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness") if f"{kind}Probe" in container
        ]
        assert len(probes) == (3 if "ports" in container else 0), name
        for probe in probes:
            assert probe["httpGet"]["port"] in {port["name"] for port in container["ports"]}, name


@pytest.mark.parametrize("case", [case for case in VALUES if case != "training-only"])
def test_a_pod_of_the_ranking_api_has_the_time_that_its_end_takes(case: str) -> None:
    deployment = charts.one(charts.objects(case), "Deployment", "serving")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (_, seconds) = container["lifecycle"]["preStop"]["exec"]["command"]
    drain = float(charts.environment(container)["RECSYS_MTL_DRAIN_S"])
    end = max(DRAIN_SECONDS, PATIENCE_SECONDS)
    assert spec["terminationGracePeriodSeconds"] >= int(seconds) + math.ceil(drain) + end
    assert drain > container["readinessProbe"]["periodSeconds"]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("case", VALUES)
def test_what_kuberay_checks_of_a_cluster(case: str) -> None:
    for cluster in charts.ray_clusters(charts.objects(case)):
        groups = cluster["workerGroupSpecs"]
        assert len({group["groupName"] for group in groups}) == len(groups)
        for group in groups:
            assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            if not cluster.get("enableInTreeAutoscaling"):
                assert group["minReplicas"] == group["maxReplicas"]
        for group in (cluster["headGroupSpec"], *groups):
            assert "resources" not in group  # Ray's own, which would meet those of rayStartParams
            if cluster.get("autoscalerOptions", {}).get("version") == "v2":
                assert group["template"]["spec"]["restartPolicy"] == "Never"
        assert f"=={cluster['rayVersion']}" == pins("cpu.txt")["ray"]


@pytest.mark.parametrize("case", VALUES)
def test_what_kuberay_checks_of_a_job(case: str) -> None:
    for job in charts.of_kind(charts.objects(case), "RayJob"):
        spec = job["spec"]
        assert shlex.split(spec["entrypoint"])[0] == "recsys-mtl"
        assert spec["shutdownAfterJobFinishes"] is True
        assert spec["ttlSecondsAfterFinished"] >= 0
        assert spec["backoffLimit"] >= 0
        assert spec["activeDeadlineSeconds"] > 0
        assert not {"clusterSelector", "suspend", "jobId"} & spec.keys()
        assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"


def daily_job(case: str) -> tuple[Manifest, Manifest]:
    """Return the CronJob's spec, and that of its Jobs."""
    spec = charts.one(charts.objects(case), "CronJob", "daily")["spec"]
    return spec, spec["jobTemplate"]["spec"]


def test_daily_runs_do_not_overlap_and_do_not_pile_up() -> None:
    cron, job = daily_job("aws-s3")
    assert cron["concurrencyPolicy"] == "Forbid"
    assert (cron["successfulJobsHistoryLimit"], cron["failedJobsHistoryLimit"]) == (3, 3)
    (fail, ignore) = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    assert fail["onExitCodes"]["containerName"] == container["name"]
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # as podFailurePolicy wants it


def test_a_daily_job_outlasts_its_run() -> None:
    for case in ("aws-s3", "gpu", "everything"):
        _, job = daily_job(case)
        spec = charts.daily_rayjob(charts.objects(case))["spec"]
        assert job["activeDeadlineSeconds"] > spec["activeDeadlineSeconds"] * (spec["backoffLimit"] + 1)


def test_a_daily_job_knows_its_name_by_its_pod_s_labels() -> None:
    _, job = daily_job("aws-s3")
    (container,) = job["template"]["spec"]["containers"]
    paths = {v["name"]: v["valueFrom"]["fieldRef"]["fieldPath"] for v in container["env"] if "valueFrom" in v}
    assert paths == {
        "JOB": f"metadata.labels['{BATCH}/job-name']",
        "JOB_UID": f"metadata.labels['{BATCH}/controller-uid']",
    }
    assert container["command"][-4:] == ["--name", "$(JOB)", "--owner", "$(JOB_UID)"]


@pytest.mark.parametrize("case", [case for case in VALUES if case != "least"])
def test_the_workers_of_a_run_fit_the_nodes(case: str) -> None:
    manifests = charts.objects(case)
    tree = yaml.safe_load(charts.one(manifests, "ConfigMap", "training")["data"]["run.yaml"])
    cluster = validate(ClusterConfig, tree["cluster"])
    for ray in charts.ray_clusters(manifests):
        for count, field in ((cluster.min_workers, "minReplicas"), (cluster.max_workers, "maxReplicas")):
            if field == "maxReplicas" or isinstance(cluster.workers, Elastic):
                groups = [(g[field], g["template"]["spec"]["containers"][0]) for g in ray["workerGroupSpecs"]]
                limits = [(nodes, container["resources"]["limits"]) for nodes, container in groups]
                room = sum(n * (quantity(limit["cpu"]) // cluster.cpus_per_worker) for n, limit in limits)
                assert room >= count, field
                gpus = sum(n * int(limit.get("nvidia.com/gpu", 0)) for n, limit in limits)
                assert gpus >= count * cluster.gpus_per_worker
