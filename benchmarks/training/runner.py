"""Runs measurements, each in a process of its own, and keeps their results."""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.quality.runs import RunFailedError, run_command
from benchmarks.results import Result, Store, slug
from benchmarks.training import commands, startup
from benchmarks.training.peers import environment
from benchmarks.training.plan import EVERY_ROUND, PEER_OF, ROWS, Measurement, Plan
from benchmarks.training.shapes import generated
from pipelines.allocator import allocator

ADAM_COPIES = 4
"""Numbers for each weight of a peer's table: itself, its gradient, which has all rows, and Adam's two moments."""


@dataclass
class Runner:
    """Measures what has no result yet, or finds what there is."""

    out: Path
    kuairand: Path
    say: Callable[[str], None]
    only_find: bool = False
    results: list[Result] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Measurements without a result, each with the reason."""

    @property
    def store(self) -> Store:
        """Where results are kept."""
        return Store(self.out / "results")

    def run(self, plan: Plan, repeats: int) -> None:
        """Run every round of a plan: a machine that is slow for a while is slow for all that is compared."""
        for repeat in range(repeats):
            for one in plan:
                if repeat == 0 or one.part in EVERY_ROUND:
                    self._take(replace(one, repeat=repeat))

    def _take(self, one: Measurement) -> None:
        result = self.store.find(one.name, one.settings)
        if result is None and not self.only_find:
            self.say(f"{one.name} ...")
            try:
                result = self.store.save(one.name, one.settings, self._measured(one))
            except RunFailedError as error:
                self.say(f"{one.name}: {error}")
                self.missing[one.name] = str(error)
        if result is None:
            self.missing.setdefault(one.name, "not measured")
        else:
            about = {"part": one.part, "case": one.case, "system": one.system, "repeat": one.repeat}
            self.results.append(result | about | {"settings": one.settings})

    def _measured(self, one: Measurement) -> Result:
        if one.job["kind"] == "startup":
            return {"seconds": startup.startup(one.job["turns"])}
        data = self._data(one)
        log = self.out / "logs" / f"{slug(one.name)}.log"
        try:
            if one.job["kind"] == "train":
                return commands.train(one.job | {"data": str(data)}, self.out, log)
            return self._answered(one, data, log)
        finally:
            if one.part == ROWS:  # they are large, and read once
                shutil.rmtree(data)

    def _data(self, one: Measurement) -> Path:
        """Return the data of a measurement, generating them if need be.

        Raises:
            RunFailedError: they are real, and not there.
        """
        if one.shape is not None:
            return generated(one.shape, self.out / "data")
        if not (self.kuairand / "spec.yaml").is_file():
            raise RunFailedError(f"no prepared KuaiRand data at {self.kuairand} (recsys-mtl prepare kuairand)")
        return self.kuairand

    def _answered(self, one: Measurement, data: Path, log: Path) -> Result:
        """Let another process measure."""
        peer = PEER_OF.get(one.system)
        command = [sys.executable, "-m", "benchmarks.training.ours"] if peer is None else environment.command(peer)
        if peer is not None:
            require_memory(one)
        with tempfile.TemporaryDirectory() as directory:
            answer = Path(directory) / "answer.json"
            job = one.settings["job"] | {"data": str(data), "shape": one.settings["shape"]}
            variables = allocator() if peer is None else environment.OFFLINE
            run_command([*command, json.dumps(job), str(answer)], log, variables)
            if not answer.is_file():
                raise RunFailedError(f"see {log}")
            return json.loads(answer.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def require_memory(one: Measurement) -> None:
    """Make sure that a peer's tables fit, before the system ends some process for it.

    Raises:
        RunFailedError: they do not.
    """
    assert one.shape is not None
    needed = 4 * ADAM_COPIES * one.shape.fields * one.shape.vocabulary * one.shape.dim
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    if found is not None and 1024 * int(found[1]) < needed:
        raise RunFailedError(f"needs {needed / 2**30:.1f} GiB for tables, {int(found[1]) / 2**20:.1f} GiB are free")
