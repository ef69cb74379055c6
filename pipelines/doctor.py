"""Says in one line per part whether this installation can train and serve, and what to do where it cannot.

Nothing here imports torch, Ray or MLflow: they are looked at through package metadata and in child processes, so that a
crash at import is a finding and not the end of the program.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from rich.console import Console
from rich.text import Text

PAIRED = {"2.12": "1.7", "2.13": "1.8", "2.14": "1.9"}
"""Minor version of torch -> minor version of torchrec and of fbgemm, which are released together for it."""

FBGEMM = ("fbgemm-gpu-cpu", "fbgemm-gpu")
"""The builds of fbgemm: without and with CUDA, both in the directory ``fbgemm_gpu``."""

PROBES = {
    "fbgemm": """
import fbgemm_gpu, torch
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
table = EmbeddingBagConfig(name="table", embedding_dim=4, num_embeddings=10, feature_names=["id"])
ids = KeyedJaggedTensor(keys=["id"], values=torch.tensor([1, 2, 3]), lengths=torch.tensor([2, 1]))
assert EmbeddingBagCollection(tables=[table])(ids)["id"].shape == (2, 4)
print("an embedding lookup works")
""",
    "ray": "import ray, ray.train.torch; print(ray.__version__)",
    "mlflow": """
import mlflow
mlflow.set_tracking_uri("sqlite:///doctor.db")
with mlflow.start_run():
    mlflow.log_metric("auc", 0.5)
print(f"{mlflow.__version__}, a run was tracked in SQLite")
""",
}
"""What each heavy part must do in a process of its own; the last line that it prints is the finding."""

PROBE_SECONDS = 180.0
GIB = 1024**3
REINSTALL = "run `rm -rf .venv && make setup`"


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    ok: bool
    message: str
    """What was found; where that is not ok, followed by what to do."""


def run() -> int:
    """Print every check and return the exit code: 1 where something needs doing."""
    console = Console(highlight=False)
    with console.status("looking at the installation ..."):
        found = checks()
    for check in found:
        mark = Text("ok  ", "green") if check.ok else Text("FAIL", "bold red")
        console.print(Text.assemble(mark, f"  {check.name:<15}", check.message), soft_wrap=True)
    return int(not all(check.ok for check in found))


def checks(directory: Path = Path()) -> list[Check]:
    """Look at the installed packages, at what they do when used, and at the machine with its disk at ``directory``."""
    with ThreadPoolExecutor(len(PROBES)) as pool:
        probed = pool.map(lambda name: check_probe(name, PROBES[name]), PROBES)
        versions = installed()
        packages = [check_python(), check_torchrec(versions), check_torchmetrics(versions)]
        machine = [check_shared_memory(), check_disk(directory), check_processors(), check_memory()]
        return [*packages, *probed, *machine]


def installed() -> dict[str, str]:
    """Return the version of every installed package by its normalised name."""
    return {dist.name.lower().replace("_", "-"): dist.version for dist in distributions() if dist.name}


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Is this Python new enough?"""
    fix = "" if version >= (3, 11) else f" is too old: install Python 3.11, then {REINSTALL}"
    return Check("python", not fix, ".".join(map(str, version)) + fix)


def check_torchrec(versions: Mapping[str, str]) -> Check:
    """Were torch, torchrec and fbgemm built for each other, going by their ``versions``?"""
    problem = torch_problem(versions) or fbgemm_problem(versions) or pairing_problem(versions)
    stack = ", ".join(f"{name} {versions[name]}" for name in ("torch", "torchrec", *FBGEMM) if name in versions)
    return Check("torchrec", not problem, problem or stack)


def torch_problem(versions: Mapping[str, str]) -> str | None:
    """Say why no torchrec goes with this torch, if none does."""
    if "torch" not in versions:
        return "torch is not installed: run `make setup`"
    if minor(versions["torch"]) not in PAIRED:
        return f"torch {versions['torch']} has no torchrec made for it, {' and '.join(PAIRED)} have: {REINSTALL}"
    return None


def fbgemm_problem(versions: Mapping[str, str]) -> str | None:
    """Say why the wrong build of fbgemm is installed, if it is."""
    builds = [name for name in FBGEMM if name in versions]
    torch = versions["torch"]
    right = "fbgemm-gpu-cpu" if torch.endswith("+cpu") else "fbgemm-gpu"
    fix = f"run `pip uninstall -y {' '.join(builds)} && pip install --no-deps {right}=={PAIRED[minor(torch)]}.0`"
    if len(builds) > 1:
        return f"{' and '.join(builds)} are installed over each other: {fix}"
    if builds == ["fbgemm-gpu"] != [right]:
        return f"fbgemm-gpu is the CUDA build, which torch {torch} cannot load: {fix}"
    if not builds:
        return f"fbgemm is not installed: run `pip install --no-deps {right}=={PAIRED[minor(torch)]}.0`"
    return None


def pairing_problem(versions: Mapping[str, str]) -> str | None:
    """Say which of torchrec and fbgemm is not the release made for this torch, if one is not."""
    release = PAIRED[minor(versions["torch"])]
    build = next(name for name in FBGEMM if name in versions)
    wrong = {name: versions.get(name) for name in ("torchrec", build) if minor(versions.get(name, "")) != release}
    if not wrong:
        return None
    state = " and ".join(f"{name} is {version or 'not installed'}" for name, version in wrong.items())
    fix = " ".join(f"{name}=={release}.0" for name in wrong)
    return f"torch {versions['torch']} goes with release {release} but {state}: run `pip install --no-deps {fix}`"


def minor(version: str) -> str:
    """Return ``2.13`` for ``2.13.0+cpu``."""
    return ".".join(version.split("+")[0].split(".")[:2])


def check_torchmetrics(versions: Mapping[str, str]) -> Check:
    """Is torchmetrics the one release that torchrec works with?"""
    found = versions.get("torchmetrics", "not installed")
    fix = "" if found == "1.0.3" else ", torchrec needs 1.0.3: run `pip install torchmetrics==1.0.3`"
    return Check("torchmetrics", not fix, found + fix)


def check_probe(name: str, code: str, seconds: float = PROBE_SECONDS) -> Check:
    """Run ``code`` in a process and directory of its own and report its last words."""
    command = [sys.executable, "-c", code]
    with tempfile.TemporaryDirectory() as directory:
        try:
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return Check(name, False, f"no answer within {seconds:.0f} s: close other programs and try again")
    if done.returncode == 0:
        return Check(name, True, last_line(done.stdout))
    end = signal.Signals(-done.returncode).name if done.returncode < 0 else last_line(done.stderr)
    return Check(name, False, f"fails with {end}: {REINSTALL}")


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def check_shared_memory(path: Path = Path("/dev/shm"), need: float = 0.25) -> Check:
    """Is there room for Ray's object store, which is slow on disk?"""
    if not path.is_dir():
        return Check("shared memory", True, f"no {path} on this system")
    free = shutil.disk_usage(path).free / GIB
    fix = f"below {need:g} GiB Ray's objects go to disk: delete leftovers there, or give the container --shm-size=1g"
    return check_enough("shared memory", free, need, f"{free:.1f} GiB free in {path}", fix)


def check_disk(directory: Path, need: float = 2.0) -> Check:
    """Is there room for data sets, checkpoints and bundles?"""
    free = shutil.disk_usage(directory).free / GIB
    fix = f"at least {need:g} GiB are needed: free some or work in another directory"
    return check_enough("disk", free, need, f"{free:.1f} GiB free in {directory.resolve()}", fix)


def check_processors(need: int = 2) -> Check:
    """Can the default two workers each have a core?"""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return check_enough("processors", cores, need, f"{cores} cores", f"a worker needs one: set cluster.workers={cores}")


def check_memory(need: float = 4.0) -> Check:
    """Is there memory for Ray and two workers?"""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    fix = f"Ray and two workers need {need:g} GiB: set cluster.workers=1"
    return check_enough("memory", size, need, f"{size:.1f} GiB", fix)


def check_enough(name: str, have: float, need: float, found: str, fix: str) -> Check:
    """Report what was ``found``, with the ``fix`` where it is too little."""
    return Check(name, have >= need, found if have >= need else f"{found}, {fix}")


if __name__ == "__main__":
    sys.exit(run())
