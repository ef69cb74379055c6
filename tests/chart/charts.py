"""The chart, rendered by a real helm, and what is in it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys_mtl.config import LOADER

Manifest = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "recsys-mtl"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
VALUES = {"defaults": (), **{path.stem: (path,) for path in EXAMPLES}}
VALUES |= {path.stem: (path,) for path in sorted((Path(__file__).parent / "values").glob("*.yaml"))}
"""Files of values by the name of the case."""
RELEASE, NAMESPACE = "rel", "recsys"
APIS = ("monitoring.coreos.com/v1", "ray.io/v1")
OLDEST, NEWEST = "1.31.0", "1.37.0"
"""Kubernetes releases that the chart is for."""


def program() -> str:
    """Find helm on the PATH, or where ``make`` puts it."""
    found = shutil.which("helm") or shutil.which("helm", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("there is no helm: `make test` fetches one, and so does `python -m helm.fetch .venv/bin/helm`")
    return found


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm with a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        places = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        command = [program(), *map(str, arguments)]
        return subprocess.run(command, env=os.environ | places, capture_output=True, text=True, timeout=60, check=False)


def template(*files: Path, sets: tuple[str, ...] = (), version: str = NEWEST) -> subprocess.CompletedProcess[str]:
    """Run ``helm template`` with files of values and ``path=value``."""
    options = [f"--values={file}" for file in files] + [f"--set={one}" for one in sets]
    apis = [f"--api-versions={api}" for api in APIS]
    return helm("template", RELEASE, CHART, "--namespace", NAMESPACE, "--kube-version", version, *apis, *options)


@cache
def rendered(*files: Path, sets: tuple[str, ...] = (), version: str = NEWEST) -> tuple[Manifest, ...]:
    """Return the chart's objects."""
    done = template(*files, sets=sets, version=version)
    assert done.returncode == 0, done.stderr
    return tuple(manifest for manifest in yaml.load_all(done.stdout, LOADER) if manifest)


def objects(case: str) -> tuple[Manifest, ...]:
    """Return the objects of a case, and the RayJob that its CronJob makes."""
    found = rendered(*VALUES[case])
    return (*found, *(daily_rayjob(found) for one in found if one["kind"] == "CronJob"))


def daily_rayjob(manifests: tuple[Manifest, ...]) -> Manifest:
    """Return the RayJob in the daily run's ConfigMap, named as it will be."""
    text = one(manifests, "ConfigMap", "daily")["data"]["rayjob.yaml"]
    rayjob: Manifest = yaml.load(text, LOADER)
    name = one(manifests, "CronJob", "daily")["metadata"]["name"]
    return {**rayjob, "metadata": {**rayjob["metadata"], "name": f"{name}-29700000-ray", "namespace": NAMESPACE}}


def of_kind(manifests: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    """Return the objects of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def one(manifests: tuple[Manifest, ...], kind: str, suffix: str) -> Manifest:
    """Return the only object of a kind whose name ends so."""
    (found,) = (m for m in of_kind(manifests, kind) if m["metadata"]["name"].endswith(f"-{suffix}"))
    return found


def name_of(manifest: Manifest) -> str:
    """Name an object as kubectl does."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Return every pod's template, by where it is."""
    return {f"{name_of(m)}{path}": pod for m in manifests for path, pod in templates(m.get("spec", {}))}


def templates(node: Any, path: str = "") -> Iterator[tuple[str, Manifest]]:
    """Find templates of pods, however deep."""
    if isinstance(node, dict):
        if "containers" in node.get("spec", {}):
            yield path, node
            return
        for key, child in node.items():
            yield from templates(child, f"{path}.{key}")
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from templates(child, f"{path}[{number}]")


def containers(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Return every container, that of Ray's autoscaler included."""
    found = {f"{name} {c['name']}": c for name, pod in pods(manifests).items() for c in pod["spec"]["containers"]}
    for cluster in ray_clusters(manifests):
        if "autoscalerOptions" in cluster:
            found[f"autoscaler {len(found)}"] = cluster["autoscalerOptions"]
    return found


def ray_clusters(manifests: tuple[Manifest, ...]) -> list[Manifest]:
    """Return the specs of Ray clusters, those of jobs included."""
    own = [m["spec"] for m in of_kind(manifests, "RayCluster")]
    return own + [m["spec"]["rayClusterSpec"] for m in of_kind(manifests, "RayJob")]


def environment(container: Manifest) -> dict[str, str]:
    """Return a container's variables whose values are in the manifest."""
    return {variable["name"]: variable["value"] for variable in container.get("env", []) if "value" in variable}
