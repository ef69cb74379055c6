"""A whole soak, as short as it can be."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import builders

pytestmark = [pytest.mark.slow, pytest.mark.faults]
SHORT = ("--quick", "--steady", "3", "--swaps", "3", "--outage", "2", "--rate", "10", "--growth", "2")


def soak(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.soak", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_a_soak_from_beginning_to_end(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    builders.prepared(data)
    bundles = [tmp_path / "one", tmp_path / "two"]
    for seed, bundle in enumerate(bundles):
        builders.bundle(bundle, data, seed=seed)
    given = [part for bundle in bundles for part in ("--bundle", str(bundle))]
    run = soak("--out", str(out), "--data", str(data), *given, *SHORT)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((out / "report.json").read_text())
    assert all(verdict["is_kept"] or verdict["is_timing"] for verdict in found["verdicts"])
    names = [one["phase"] for one in found["traffic"]]
    assert {"hot swaps", "broken bundle", "killed worker", "Redis hangs", "Redis away", "registry away"} < set(names)
    assert all(one["requests"] for one in found["traffic"])
    assert all(one["pss"] > 10 for one in found["memory"])
    assert (len(found["swaps"]), len(found["killed"])) == (4, 1)
    assert (out / "report.md").read_text() in run.stdout
    mine = [
        process for process in psutil.process_iter(["cmdline"]) if str(out) in " ".join(process.info["cmdline"] or ())
    ]
    assert mine == []
