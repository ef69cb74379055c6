"""Patience with a server that is away: what may pass is tried again for a while."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from recsys_mtl.tracking.artifacts import store_status
from recsys_mtl.tracking.store import UnreachableError

T = TypeVar("T")

RETRY_SECONDS = 2.0
"""Pause between tries."""


class UndeliveredError(Exception):
    """A run has come to its end, and the tracking server could not be told; everything waits on disk."""


def patiently(work: Callable[[], T], *, seconds: float, say: Callable[[str], None]) -> T:
    """Do something that needs the tracking server; try again for so long, after telling ``say`` once.

    Raises:
        Exception: what the last try raised, or any that no waiting can mend.
    """
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            return work()
        except Exception as error:
            if not may_pass(error) or time.monotonic() >= deadline:
                raise
            if not told:
                say(f"the tracking server does not answer; trying for {seconds:.0f} s: {error}")
            told = True
            time.sleep(RETRY_SECONDS)


def may_pass(error: BaseException) -> bool:
    """Tell a server that is away or in trouble from one that refuses what it was asked."""
    import requests
    from mlflow.exceptions import MlflowException

    for cause in _causes(error):
        if isinstance(cause, UnreachableError | ConnectionError | TimeoutError):
            return True
        if isinstance(cause, requests.HTTPError) and cause.response is not None:
            return _is_trouble(cause.response.status_code)
        if isinstance(cause, requests.RequestException):
            return True
        if isinstance(cause, MlflowException):
            return _is_trouble(int(cause.get_http_status_code()))  # type: ignore[no-untyped-call]
        if (status := store_status(cause)) is not None:
            return _is_trouble(status)
    return False


def _is_trouble(status: int) -> bool:
    return status >= 500 or status == 429


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # boto3 wraps without naming the cause
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
