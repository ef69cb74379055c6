import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from recsys_mtl.bundle import Bundle
from tests import builders


@contextmanager
def running(model: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``python -m serving`` on a free port of the loopback interface, and end it whatever happens."""
    environment = os.environ | {"RECSYS_MTL_MODEL": str(model), "RECSYS_MTL_PORT": "0"}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "serving"], env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def wait_for(pattern: str, log: Path, process: subprocess.Popen[bytes], seconds: float = 120) -> str:
    deadline = time.monotonic() + seconds
    while not (found := re.search(pattern, log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return found[1]


@pytest.mark.slow
def test_a_served_bundle_answers_like_the_offline_one_and_ends_when_told(bundle_path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(bundle_path, log) as process:
        address = wait_for(r"listening on (http://127\.0\.0\.1:\d+)", log, process)
        wait_for(r"(ready): untrained version sha-\w+ in [\d.]+ s, \d+ golden requests reproduced", log, process)
        assert httpx.get(f"{address}/readyz").status_code == 200
        case = json.loads((bundle_path / "golden.jsonl").read_text().splitlines()[0])
        answer = httpx.post(f"{address}/v1/score", json=case["request"]).json()
        for row, expected in zip(answer["candidates"], case["expected"], strict=True):
            assert row["objectives"] == pytest.approx(expected, rel=1e-5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["message"].partition(" ")[0] for line in lines] == ["listening", "ready:", "request"]
    assert Bundle.load(bundle_path).tasks == builders.TASKS
