"""What has to happen before a first batch: programs that do one thing each and end."""

import os
import subprocess
import sys

from benchmarks.training.turns import Work, in_turn

PROGRAMS = {
    "import torch": "import torch",
    "import torch, torchrec": "import torch, torchrec",
    "import all that trains": "import pipelines.train",
    "start Ray and end it": "import ray; ray.init(num_cpus={cpus}, include_dashboard=False, logging_level='ERROR')",
}


def startup(turns: int) -> dict[str, list[float]]:
    """Return the seconds of each program, by turn."""
    works = {name: program("-c", text.format(cpus=os.cpu_count())) for name, text in PROGRAMS.items()}
    works["recsys-mtl --help"] = program("-m", "pipelines.cli", "--help")
    return in_turn(works, turns=turns, seconds=0.0)


def program(*arguments: str) -> Work:
    """Run Python with these arguments."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, check=True, capture_output=True, timeout=300)
