"""A real MLflow server, started as the chart starts it: it answers to the names by which its clients know it."""

import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart import charts
from tests.chart.charts import VALUES, Manifest
from tests.mlflow_server import wait_for

CASE = "everything"
SERVICE = "a-name-of-28-characters-long-mlflow"
SEARCH = "/api/2.0/mlflow/experiments/search"


def container() -> Manifest:
    """Return the server's container."""
    (found,) = [
        c
        for c in charts.containers(charts.rendered(*VALUES[CASE], sets=("mlflow.workers=1",))).values()
        if c.get("name") == "mlflow"
    ]
    return found


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = int(free.getsockname()[1])
    local = {"0.0.0.0": "127.0.0.1", "5000": str(number)}
    _, *arguments = (local.get(word, word) for word in container()["command"])
    places = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_ARTIFACTS_DESTINATION": str(folder)}
    variables = charts.environment(container()) | places
    command = [sys.executable, "-m", "mlflow", *arguments]
    with (folder / "log").open("w") as log:
        environment = os.environ | variables
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{number}", process)
        yield number
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def status(port: int, method: str, path: str, **headers: str) -> int:
    """Ask, and return the answer's status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, b'{"max_results": 1}', {"Content-Type": "application/json"} | headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.slow
def test_the_server_answers_to_its_names_and_to_no_others(port: int) -> None:
    domains = ("", f".{charts.NAMESPACE}", f".{charts.NAMESPACE}.svc", f".{charts.NAMESPACE}.svc.cluster.local")
    names = [*(f"{SERVICE}{domain}:5000" for domain in domains), "mlflow.example.com", "mlflow.internal:443"]
    for name in (*names, f"localhost:{port}", SERVICE):
        assert status(port, "POST", SEARCH, Host=name) == 200, name
    for name in ("rebound.example.com", f"{SERVICE}.evil.example.com", "10.0.0.1:5000"):
        assert status(port, "POST", SEARCH, Host=name) == 403, name
        assert status(port, "GET", "/health", Host=name) == 200  # as probes ask
    page = {"Host": "mlflow.example.com"}
    assert status(port, "POST", SEARCH, Origin="https://mlflow.example.com", **page) == 200
    assert status(port, "POST", SEARCH, Origin="https://rebound.example.com", **page) == 403


def test_mlflow_knows_every_variable() -> None:
    found = importlib.util.find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    sources = [package / "environment_variables.py", package / "cli" / "__init__.py", package / "utils" / "cli_args.py"]
    text = "".join(source.read_text() for source in sources)
    for case in VALUES:
        for one in charts.containers(charts.objects(case)).values():
            for variable in one.get("env", []):
                name = variable["name"]
                assert not name.startswith("MLFLOW_") or f'"{name}"' in text, name
