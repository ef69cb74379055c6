"""The same bundle behind `mlflow models serve` and behind Ray Serve, as a team would put it there in an afternoon."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd  # type: ignore[import-untyped]
import torch

from benchmarks.serving.limit import raw_table
from recsys_mtl.bundle import Bundle


class PythonModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """The bundle as a pyfunc: a frame of raw columns in, a column of scores for each objective out."""

    def load_context(self, context: Any) -> None:
        """Read the bundle."""
        torch.set_num_threads(1)
        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Score rows."""
        scores_BT = self.bundle.score(raw_table(model_input.to_dict("records")))
        return pd.DataFrame(scores_BT.numpy(), columns=list(self.bundle.tasks))


def save_pyfunc(bundle: Path, path: Path) -> None:
    """Write what `mlflow models serve` takes."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow.pyfunc.save_model(path, python_model=PythonModel(), artifacts={"bundle": str(bundle)}, pip_requirements=[])


def serve_on_ray(bundle: str, port: int, replicas: int) -> None:
    """Run a deployment until the process is ended."""
    import ray
    from ray import serve

    @serve.deployment(num_replicas=replicas, ray_actor_options={"num_cpus": 1})
    class Ranker:
        def __init__(self) -> None:
            torch.set_num_threads(1)
            self.bundle = Bundle.load(Path(bundle))

        async def __call__(self, request: Any) -> dict[str, list[list[float]]]:
            rows = (await request.json())["rows"]
            return {"scores": self.bundle.score(raw_table(rows)).tolist()}

    ray.init(num_cpus=replicas + 1, include_dashboard=False, configure_logging=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Ranker.bind(), blocking=True)  # type: ignore[attr-defined]  # which the decorator adds


if __name__ == "__main__":
    serve_on_ray(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
