"""Submissions: what a training run is called where it is a job of a Ray cluster, and how the job knows."""

import os
import re

import xxhash

VARIABLE = "RECSYS_MTL_SUBMISSION_ID"
"""Environment variable that tells a job which one it is."""
TAG = "submission_id"
"""Tag of the MLflow run with the same value."""
LONGEST = 100
AGAIN = "~"
"""Between a run's name and the number of the try; names have none of it."""


def submission_id(run_name: str, attempt: int = 1) -> str:
    """Name the job of a run, of which there is one more where those before it failed.

    Ray puts the name into addresses and file names: where that needs another spelling, a hash keeps names apart.
    """
    spelled = re.sub(r"[^A-Za-z0-9_.-]+", "-", run_name)[:LONGEST]
    if spelled != run_name:
        spelled += f"-{xxhash.xxh32_hexdigest(run_name.encode())}"
    return spelled if attempt == 1 else f"{spelled}{AGAIN}{attempt}"


def attempt_of(submission: str) -> int:
    """Return which try of its run a job is."""
    _, _, number = submission.partition(AGAIN)
    return int(number or 1)


def submission_tags() -> dict[str, str]:
    """Return the tags of a run that is a job; none elsewhere."""
    return {TAG: os.environ[VARIABLE]} if VARIABLE in os.environ else {}
