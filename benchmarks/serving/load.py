"""Load by wrk: a number of clients, each of which asks again as soon as it has its answer."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recsys_mtl.config import ConfigError

WARM_UP_S = 1
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*all")
file:close()
function done(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write
               + summary.errors.status + summary.errors.timeout
  io.write(string.format('{{"p50": %.1f, "p99": %.1f, "requests": %d, "microseconds": %d, "errors": %d}}\\n',
    latency:percentile(50), latency:percentile(99), summary.requests, summary.duration, errors))
end
"""


@dataclass(frozen=True)
class Load:
    """What clients saw."""

    p50_ms: float
    p99_ms: float
    rate: float
    """Requests per second."""
    errors: int


def check() -> None:
    """Make sure that there is a generator.

    Raises:
        ConfigError: there is none.
    """
    if shutil.which("wrk") is None:
        raise ConfigError(["wrk is not installed; on Debian: apt-get install wrk"])


def load(url: str, body: bytes, *, clients: int, seconds: int) -> Load:
    """Ask for some seconds, after a short warm-up."""
    with tempfile.TemporaryDirectory() as directory:
        file, script = Path(directory) / "body", Path(directory) / "post.lua"
        file.write_bytes(body)
        script.write_text(SCRIPT.format(body=file))
        command = ["wrk", "--threads", "1", "--connections", str(clients), "--timeout", "60", "--script", str(script)]
        asked = partial(subprocess.run, capture_output=True, text=True, check=True)
        asked([*command, "--duration", f"{WARM_UP_S}s", url])
        run = asked([*command, "--duration", f"{seconds}s", url])
    found = json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{")))
    if not found["requests"]:
        raise RuntimeError(f"{url}: no answer within {seconds} s")
    rate = found["requests"] / (found["microseconds"] / 1e6)
    return Load(found["p50"] / 1e3, found["p99"] / 1e3, rate, found["errors"])
