"""A serving image has the extra ``serve`` and no other."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.pins import closure, modules_of, pins

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml", "prometheus-client": "prometheus_client"}

SCORE = """
import json, sys
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None  # as if it were not installed
import pipelines.cli, serving.worker
from fastapi.testclient import TestClient
from serving.app import create_app
from serving.settings import Settings
app = create_app(Settings(model=sys.argv[2]))
with TestClient(app) as client:
    app.state.service.follower.settled.wait(120)
    answer = client.post("/v1/rank", json={"user": {"user": 1}, "candidates": [{"item_id": 1}]})
assert answer.status_code == 200, answer.text
print("recsys_mtl.training" in sys.modules)
"""


def modules(*extras: str) -> set[str]:
    """Modules of the packages that extras ask for; the core's where none is named."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    lines = [line for extra in extras for line in project["optional-dependencies"][extra]]
    names = [Requirement(line).name for line in lines or project["dependencies"]]
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


@pytest.mark.slow
def test_the_service_scores_without_what_only_training_needs(bundle_path: Path) -> None:
    absent = modules("train", "cluster", "redis", "s3") - modules("serve") - modules()
    absent |= modules_of(pins("cpu.txt").keys() - pins("serving.txt").keys())
    assert {"ray", "sklearn", "matplotlib", "redis", "boto3"} <= absent
    command = [sys.executable, "-W", "ignore", "-c", SCORE, json.dumps(sorted(absent)), str(bundle_path)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_the_extra_serve_has_the_web_server() -> None:
    assert {"fastapi", "uvicorn", "orjson", "msgspec", "prometheus_client"} <= modules("serve")
    assert not {"ray", "fastapi", "sklearn", "matplotlib"} & modules()


def test_the_serving_image_has_what_its_extras_ask_for() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = [line for extra in ("serve", "redis", "s3") for line in project["optional-dependencies"][extra]]
    needed = closure([*project["dependencies"], *extras]) - {"torchrec"}  # in nodeps-cpu.txt
    assert pins("serving.txt") == {name: version for name, version in pins("cpu.txt").items() if name in needed}
