import itertools
import json
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.distributed.processes import free_port
from tests.mlflow_server import server
from tests.serving.registered import CHAMPION, Shop
from tests.serving.service_process import Running, service, until
from tests.serving.world import Json, one_user, request_of

pytestmark = [pytest.mark.slow, pytest.mark.faults]


class Connection(threading.Thread):
    """A client that asks on one connection, so by one worker, until it is told to stop."""

    def __init__(self, address: str, body: Json) -> None:
        super().__init__(daemon=True)
        self.address, self.body = address, json.dumps(body)
        self.done = threading.Event()
        self.answers: list[httpx.Response] = []

    def run(self) -> None:
        headers = {"Content-Type": "application/json"}
        with httpx.Client(base_url=self.address, timeout=120, headers=headers) as client:
            while not self.done.is_set():
                self.answers.append(client.post("/v1/score", content=self.body))

    def versions(self) -> list[str]:
        return [version for version, _ in itertools.groupby(a.json()["model"]["version"] for a in self.answers)]


def versions_of(running: Running) -> str:
    """What the workers have said that they changed to, in order."""
    lines = running.log.read_text().splitlines()
    return "".join(line.partition(" version ")[2][0] for line in lines if "ready: shop" in line)


def test_two_workers_follow_a_registry_that_goes_away_and_comes_back(data: Path, tmp_path: Path) -> None:
    port, body = free_port(), request_of(one_user(6))
    uri, cache = f"http://127.0.0.1:{port}", tmp_path / "cache"
    settings = {"model": CHAMPION, "tracking_uri": uri, "cache_dir": cache, "poll_seconds": 0.5}
    with ExitStack() as registry:
        registry.enter_context(server(tmp_path, port))
        shop = Shop(uri, data)
        assert [shop.add_trained(tmp_path / "one", 4), shop.add_trained(tmp_path / "two", 5)] == [1, 2]
        assert shop.add_broken(tmp_path / "broken", 6) == 3
        shop.point(1)
        with service(tmp_path / "log", workers=2, **settings) as running:
            until(lambda: versions_of(running) == "11", running.log)
            clients = [Connection(running.address, body) for _ in range(4)]
            for client in clients:
                client.start()
            for version, said in ((2, "1122"), (3, "1122"), (1, "112211")):
                shop.point(version)
                if version == 3:
                    until(lambda: running.log.read_text().count("refused models:/shop@champion") == 2, running.log)
                until(lambda said=said: versions_of(running) == said, running.log)  # type: ignore[misc]
            registry.close()
            until(lambda: bool(running.get("/readyz").json()["stale"]), running.log)
            assert running.get("/readyz").status_code == 200
            for client in clients:
                client.done.set()
                client.join(120)
                assert {answer.status_code for answer in client.answers} == {200}
                assert client.versions() == ["1", "2", "1"]
    with service(tmp_path / "second", **settings) as running:
        until(lambda: running.get("/readyz").status_code == 200, running.log)
        ready = running.get("/readyz").json()
        assert (ready["model"]["version"], ready["stale"]) == ("1", True)
        with server(tmp_path, port):
            shop.point(2)
            until(lambda: versions_of(running) == "12", running.log)
            until(lambda: not running.get("/readyz").json()["stale"], running.log)
