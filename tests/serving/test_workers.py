import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from serving.supervisor import LONGEST_PAUSE, Worker, ending
from tests.serving.service_process import Running, service, until
from tests.serving.world import one_user, request_of

pytestmark = pytest.mark.slow

SCORED = "recsys_request_candidates_count"
ASKED = 'recsys_objective_scores_count{task="click"}'


def post(running: Running, body: dict[str, object]) -> httpx.Response:
    return httpx.post(f"{running.address}/v1/score", json=body, timeout=120)


def half_sent(running: Running, body: bytes) -> socket.socket:
    """Open a connection, and send a request but for the last byte of its body."""
    url = urlsplit(running.address)
    connection = socket.create_connection((url.hostname, url.port or 0), timeout=120)
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body[:-1])
    return connection


def refuses(running: Running) -> bool:
    url = urlsplit(running.address)
    try:
        socket.create_connection((url.hostname, url.port or 0), timeout=5).close()
    except OSError:
        return True
    return False


def test_workers_come_back_count_together_and_finish_what_they_began(bundle_path: Path, tmp_path: Path) -> None:
    body = request_of(one_user(4))
    with service(tmp_path / "log", model=bundle_path, workers=2, cache_dir=tmp_path / "cache") as running:
        until(lambda: running.log.read_text().count("ready: ") == 2, running.log)
        before = {worker.pid for worker in running.workers()}
        assert len(before) == 2
        scores = [post(running, body).json()["candidates"] for _ in range(12)]  # a connection each: either may answer
        assert all(one == scores[0] for one in scores)
        assert (running.sample(SCORED), running.sample(ASKED)) == (12, 48)
        assert running.sample("recsys_workers") == 2
        assert 'version="sha-' in running.get("/metrics").text

        for death in (1, 2):  # both of them, so that whoever is asked has counted on from a dead one's file
            psutil.Process(before.pop()).kill()
            assert post(running, body).status_code == 200  # by the other one
            ready = 2 + death
            until(lambda ready=ready: running.log.read_text().count("ready: ") == ready, running.log)  # type: ignore[misc]
            until(lambda: running.sample("recsys_workers") == 2, running.log)
            assert running.sample("recsys_worker_restarts_total") == death
        assert (running.sample(SCORED), running.sample(ASKED)) == (14, 56)
        assert running.log.read_text().count("was killed by SIGKILL; another one follows") == 2

        with half_sent(running, json.dumps(body).encode()) as connection:
            time.sleep(0.5)  # the request is on its way
            workers = running.workers()
            running.process.send_signal(signal.SIGTERM)
            until(lambda: refuses(running), running.log)
            connection.sendall(json.dumps(body).encode()[-1:])
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["candidates"] == scores[0]
        assert running.process.wait(60) == 0
        assert not any(worker.is_running() for worker in workers)


def test_no_worker_outlives_its_supervisor(bundle_path: Path, tmp_path: Path) -> None:
    with service(tmp_path / "log", model=bundle_path, supervise="true", cache_dir=tmp_path / "cache") as running:
        until(lambda: "ready: " in running.log.read_text(), running.log)
        (worker,) = running.workers()
        (shared,) = {Path(file.path).parent for file in worker.memory_maps() if file.path.endswith(".db")}
        with half_sent(running, b'{"user": {}, "candidates": [{"item_id": 1}]}') as connection:
            time.sleep(0.5)
            running.process.kill()
            until(lambda: refuses(running), running.log)
            connection.sendall(b"}")
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
        until(lambda: not worker.is_running(), running.log)
        assert not shared.exists()


def test_a_supervisor_that_dies_early_takes_its_worker_with_it(bundle_path: Path, tmp_path: Path) -> None:
    with service(tmp_path / "log", model=bundle_path, supervise="true", cache_dir=tmp_path / "cache") as running:
        until(lambda: len(running.workers()) == 1, running.log)
        (worker,) = running.workers()
        running.process.kill()
        until(lambda: not worker.is_running(), running.log)


def test_a_worker_that_dies_again_and_again_starts_later_every_time() -> None:
    process = subprocess.Popen(["true"])
    process.wait(60)
    pauses = [Worker(0, process, born=0.0, deaths=deaths).pause() for deaths in range(10)]
    assert pauses[:5] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize(("code", "words"), [(-9, "was killed by SIGKILL"), (1, "ended with code 1")])
def test_the_log_says_how_a_worker_ended(code: int, words: str) -> None:
    assert ending(code) == words
