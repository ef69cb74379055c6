"""The registry of the soak: an MLflow server with two sound versions of a model, and a broken one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.servers import answers, free_port
from benchmarks.soak.programs import Program
from recsys_mtl import registry
from recsys_mtl.config import ConfigError
from recsys_mtl.registry import RegistryConfig
from recsys_mtl.tracking import Run, TrackingConfig

MODEL = "soak"
ALIAS = "champion"
ADDRESS = f"models:/{MODEL}@{ALIAS}"
SOUND, BROKEN = ("1", "2"), "3"
"""Versions."""


class Registry:
    """Starts in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder, port = folder, free_port()
        self.uri = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", str(folder / "files")]
        variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.program = Program(
            "mlflow server", command, folder / "server.log", lambda: answers(port, "/health"), variables
        )

    def fill(self, bundles: Sequence[Path], data: Path) -> Path:
        """Make the versions, of bundles or of models trained for the purpose; return the directory of the first."""
        for bundle in bundles:
            self._register(bundle)
        if not bundles:
            for seed in range(len(SOUND)):
                self._train(data, seed)
        first = registry.fetch(f"models:/{MODEL}/{SOUND[0]}", self.uri, into=self.folder / "copies").path
        broken = self.folder / "broken"
        shutil.copytree(first, broken)
        spoil(broken / "golden.jsonl")
        self._register(broken)
        self.point(SOUND[0])
        return first

    def point(self, version: str) -> None:
        """Move the alias."""
        registry.set_alias(self.uri, MODEL, alias=ALIAS, version=int(version))

    def _register(self, bundle: Path) -> None:
        with Run.start(TrackingConfig(uri=self.uri), bundle.name, params={}, tags={}) as run:
            run.log_artifacts(bundle, "bundle")
        config = RegistryConfig(name=MODEL, alias="newest")
        registry.register(self.uri, run.run_id, registry=config, description="", tags={})

    def _train(self, data: Path, seed: int) -> None:
        preset = Path(__file__).parents[2] / "pipelines" / "configs" / "models" / "mmoe.yaml"
        fields = {"data.path": data.resolve(), "cluster.workers": 1, "trainer.steps": 150, "trainer.epochs": 1000}
        fields |= {"trainer.eval_every": 100_000, "health.enabled": "false", "seed": seed, "run_name": f"seed-{seed}"}
        fields |= {"tracking.uri": self.uri, "registry.name": MODEL, "registry.alias": "newest"}
        command = [sys.executable, "-m", "pipelines.cli", "train", str(preset)]
        log = self.folder / f"train-{seed}.log"
        with log.open("wb") as out:
            done = subprocess.run(
                [*command, *(f"{name}={value}" for name, value in fields.items())], stdout=out, stderr=out
            )
        if done.returncode:
            raise ConfigError([f"{log}: the model could not be trained"])


def spoil(golden: Path) -> None:
    """Change the scores that a bundle is expected to have."""
    cases = [json.loads(line) for line in golden.read_text(encoding="utf-8").splitlines()]
    for case in cases:
        case["expected"] = [{task: score + 0.1 for task, score in row.items()} for row in case["expected"]]
    golden.write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
