"""Pages that are to be followed word by word are: every block, in order, in an empty folder beside the project's files.

What is left out or changed is listed here, so that it can be seen.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.docs.pages import ROOT, SHELL, Block, blocks

SECONDS = 240
RUN = "set -euo pipefail\n"


@dataclass(frozen=True)
class Tutorial:
    """A page, and what a test does otherwise than a reader."""

    page: str
    headings: Sequence[str]
    """Sections that are followed; all of the page if none is named."""
    left_out: Sequence[str]
    """Beginnings of lines: what does not end by itself, and what needs data or an installation from elsewhere."""
    changed: Mapping[str, str]
    """Texts, and what stands for them: less data, and names that the reader fills in."""
    shown: Sequence[str]
    """What has to be in the output at the end."""


TEN_MINUTES = Tutorial(
    page="docs/tutorials/ten-minutes.md",
    headings=(),
    left_out=("source ", "mlflow ui "),
    changed={},
    shown=("registered shop version 2", '"item_id":9999', '"bought"', '"contributions"', "not separable"),
)
README = Tutorial(
    page="README.md",
    headings=("The steps one by one",),
    left_out=(
        "source ",
        "mlflow ui ",
        "recsys-mtl prepare kuairand ",
        "recsys-mtl prepare table ",
        "recsys-mtl train pipelines/configs/data/kuairand.yaml ",
        "docker build ",
        "helm install ",
    ),
    changed={
        "--rows 1000000": "--rows 12000",
        " RUN RUN ": " $(ls mlruns/artifacts | head -2) ",
        "data/demo": "data/synthetic",
        "models:/demo@": "models:/recsys-mtl@",
    },
    shown=("registered recsys-mtl version 2", '"contributions"', '"added":1'),
)


def sections(tutorial: Tutorial) -> list[Block]:
    """Return the blocks that a reader follows."""
    page = ROOT / tutorial.page
    text = page.read_text(encoding="utf-8")
    if not tutorial.headings:
        return blocks(page)
    found = []
    for heading in tutorial.headings:
        start = text.index(f"\n## {heading}\n")
        end = text.find("\n## ", start + 1)
        first, last = text[:start].count("\n"), text[:end].count("\n")
        found += [block for block in blocks(page) if first < block.line <= last]
    return found


@dataclass
class Reader:
    """Somebody in a folder who types what a page says."""

    tutorial: Tutorial
    folder: Path
    port: int
    output: str = ""
    service: subprocess.Popen[bytes] | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment that `source .venv/bin/activate` makes."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"}

    def follow(self, block: Block) -> None:
        if block.title is not None:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            self.run([sys.executable, "-c", self.here(block.text)])
        elif block.kind in SHELL:
            self.type(self.here(self.kept(block.text)))

    def kept(self, text: str) -> str:
        joined = text.replace("\\\n", " ")
        return "\n".join(line for line in joined.splitlines() if not line.startswith(tuple(self.tutorial.left_out)))

    def here(self, text: str) -> str:
        for written, typed in self.tutorial.changed.items():
            text = text.replace(written, typed)
        return re.sub(r"\b8000\b", str(self.port), text)

    def type(self, text: str) -> None:
        """Run lines up to one that starts the service, the service beside the rest, and the rest."""
        lines = text.splitlines()
        serving = [at for at, line in enumerate(lines) if re.match(r"(\w+=\S+ )*recsys-mtl serve ", line)]
        if not serving:
            self.run(["bash", "-c", RUN + text])
            return
        (at,) = serving
        self.type("\n".join(lines[:at]))
        self.serve(lines[at])
        self.type("\n".join(lines[at + 1 :]))

    def run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables, timeout=SECONDS, capture_output=True, text=True, check=False
        )
        self.output += done.stdout
        assert done.returncode == 0, f"{command[-1]}\n{self.output}\n{done.stderr}"
        assert "Traceback" not in done.stderr

    def serve(self, line: str) -> None:
        """Start the service in place of the one before, and wait until it is ready."""
        self.stop()
        log = self.folder / "serve.log"
        with log.open("wb") as out:
            self.service = subprocess.Popen(
                ["bash", "-c", f"exec env {line}"], cwd=self.folder, env=self.variables, stdout=out, stderr=out
            )
        deadline = time.monotonic() + SECONDS
        while not self.is_ready():
            assert self.service.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz").is_success
        return False

    def stop(self) -> None:
        if self.service is not None:
            self.service.terminate()
            self.service.wait(30)


@contextmanager
def reader(tutorial: Tutorial, folder: Path) -> Iterator[Reader]:
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    person = Reader(tutorial, folder, port)
    try:
        yield person
    finally:
        person.stop()
        for child in psutil.Process().children(recursive=True):
            if str(folder) in " ".join(child.cmdline()):
                child.kill()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tutorial", [TEN_MINUTES, README], ids=lambda tutorial: tutorial.page)
def test_a_page_holds_what_it_promises(tutorial: Tutorial, tmp_path: Path) -> None:
    with reader(tutorial, tmp_path) as person:
        for block in sections(tutorial):
            person.follow(block)
    assert [text for text in tutorial.shown if text not in person.output] == []


@pytest.mark.parametrize("tutorial", [TEN_MINUTES, README], ids=lambda tutorial: tutorial.page)
def test_what_is_done_otherwise_is_on_the_page(tutorial: Tutorial) -> None:
    text = "\n".join(block.text for block in sections(tutorial))
    assert [start for start in tutorial.left_out if f"\n{start}" not in f"\n{text}"] == []
    assert [written for written in tutorial.changed if written not in text] == []
