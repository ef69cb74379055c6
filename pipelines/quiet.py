"""Keeping libraries' chatter out of the user's way, at its source."""

import logging
import os
import warnings

NOISY = (
    "torchrec",
    "torch.fx",
    "torch.distributed",
    "fbgemm_gpu",
    "ray",
    "mlflow",
    "alembic",
    "git",
    "urllib3",
    "optuna",
)


def quiet(verbose: bool = False) -> None:
    """Let libraries log errors only, in this process and in those that it starts; everything with ``verbose``."""
    if verbose:
        return
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # asked for by a warning of Ray's
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # with it, Ray Tune prints tables however quiet it is told to be
    os.environ.setdefault("TORCH_LOGS", "-all")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|torchrec|fbgemm_gpu|recsys_mtl)\b")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|torchrec|fbgemm_gpu)\b")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|torchrec|fbgemm_gpu)\b")
