"""Where files of runs go, and what the stores of files refuse."""

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from recsys_mtl.config import ConfigError
from recsys_mtl.storage import locate
from recsys_mtl.tracking.store import TrackingConfig

NO_BOTO3 = "MLflow reaches S3 through boto3, which is not installed: pip install 'recsys-mtl[s3]'"
OWN_ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"


def require_usable(config: TrackingConfig, folder: str) -> None:
    """Look whether files can go to the folder of an experiment, before anything is trained.

    Raises:
        ConfigError: it is not the one that was asked for, boto3 is not installed, or the store cannot be used.
    """
    wanted = config.artifacts and config.artifact_folder
    if wanted is not None and _plain(wanted) != _plain(folder):
        problem = f"tracking.artifacts: experiment {config.experiment!r} keeps its files at {folder}, for good"
        raise ConfigError([f"{problem}: name another tracking.experiment"])
    if urlsplit(folder).scheme == "s3":
        if find_spec("boto3") is None:
            raise ConfigError([f"tracking.artifacts: {folder}: {NO_BOTO3}"])
        if OWN_ENDPOINT not in os.environ:  # with it, MLflow's S3 is another one than ours
            locate(folder).require_bucket()


def store_errors() -> tuple[type[Exception], ...]:
    """Return what MLflow's clients of object stores raise beside its own exceptions."""
    if find_spec("boto3") is None:
        return (ImportError,)
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return ImportError, Boto3Error, BotoCoreError, ClientError


def store_status(error: BaseException) -> int | None:
    """Return the HTTP status that a store's refusal amounts to, 503 where it did not answer; None of other errors."""
    if find_spec("boto3") is None:
        return None
    from botocore.exceptions import ClientError, HTTPClientError

    if isinstance(error, HTTPClientError):
        return 503
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
    return None


def explain(error: Exception) -> str:
    """Say what a store refused."""
    return NO_BOTO3 if isinstance(error, ImportError) and error.name == "boto3" else str(error)


def _plain(folder: str) -> str:
    """Write a folder in one way: MLflow turns paths into addresses."""
    parts = urlsplit(folder)
    return str(Path(unquote(parts.path))) if parts.scheme in {"", "file"} else folder.rstrip("/")
