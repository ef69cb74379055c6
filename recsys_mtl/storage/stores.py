"""Which store an address means, and what a store's refusals mean."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from recsys_mtl.config import ConfigError

CONNECT_SECONDS, ANSWER_SECONDS, ATTEMPTS = 5.0, 8.0, 5
"""Patience with S3: a store that restarts is waited for about ten seconds, one that hangs less than a minute."""
FORMS = "a path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or another address that pyarrow.fs knows"
MEANINGS = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "NETWORK_CONNECTION": "nobody answers",
    "ACCESS_DENIED": "access denied: credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...)",
    "INVALID_ACCESS_KEY_ID": "the store does not know AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "AWS_SECRET_ACCESS_KEY is wrong",
}
"""What the commonest errors of S3 mean."""


def is_address(place: str) -> bool:
    """Tell ``scheme://...`` from a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def open_store(address: str) -> tuple[fs.FileSystem, str]:
    """Return the store that an address is in, and the path there.

    Raises:
        ConfigError: no store has such addresses, or it has a password in it.
    """
    parts = urlsplit(address)
    if parts.password is not None:  # runs, bundles and logs keep the addresses that they were given
        raise ConfigError([f"{parts.scheme}://***@...: no passwords in addresses: credentials go into the environment"])
    with refusals(address):
        try:
            if parts.scheme == "s3" and not parts.query:
                return _s3(parts.netloc), (parts.netloc + parts.path).rstrip("/")
            store, path = fs.FileSystem.from_uri(address)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError([f"{address}: {error}; expected {FORMS}"]) from None
    return store, path


def _s3(bucket: str) -> fs.FileSystem:
    """Open S3 as boto3, and with it MLflow, would: endpoint, region and credentials are in the standard environment.

    pyarrow reads the endpoint there for addresses only, which in turn leave it to wait minutes for a store that hangs.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    endpoint = endpoint.rstrip("/")
    scheme: Literal["http", "https"] = "http" if endpoint.startswith("http://") else "https"
    options: dict[str, Any] = {}
    if not bucket:
        raise pa.ArrowInvalid("the name of a bucket is missing")
    if not (endpoint or "AWS_REGION" in os.environ or "AWS_DEFAULT_REGION" in os.environ):
        options["region"] = fs.resolve_s3_region(bucket)
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        options["tls_ca_file_path"] = bundle
    return fs.S3FileSystem(
        endpoint_override=endpoint.partition("://")[2] or endpoint or None,
        scheme=scheme,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=ANSWER_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        **options,
    )


@contextmanager
def refusals(place: object) -> Iterator[None]:
    """Turn what a store or a disk refuses into an error for the user, who is told the place."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ConfigError([f"{place}: {meaning(error)}"]) from error


def is_refusal(error: Exception) -> bool:
    """Tell a store that did not hand out a file from a file that does not hold what it should."""
    return "AWS Error" in str(error) and not isinstance(error, FileNotFoundError)


def meaning(error: Exception) -> str:
    """Say in a few words what a store or a disk refused."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    text = " ".join(str(error).split())
    found = re.search(r"AWS Error (\w+(?: \(HTTP status \d+\))?) during \w+ operation: ([^;(]*)", text)
    if found is None:
        return text
    detail = found[2].strip().rstrip(".")
    return f"{MEANINGS.get(found[1], 'the store answers ' + found[1])} ({detail})"
