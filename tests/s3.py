"""An object store for tests: moto, which speaks S3 over HTTP, on a free port of loopback."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
UNSET = ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL")
BUSY = "503 Slow Down"


class ObjectStore:
    """A running server with one bucket, which the environment's standard variables point at."""

    def __init__(self) -> None:
        self.is_busy = False
        """While set, every request is answered with an error."""
        self.requests: list[str] = []
        """Method and path of every request."""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.bucket = f"bucket-{uuid4().hex[:12]}"

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}"

    def keys(self, prefix: str = "") -> list[str]:
        """Name the objects in the bucket, but for the markers of directories."""
        pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return [key for key in keys if not key.endswith("/")]

    def admit_after(self, requests: float) -> None:
        """Refuse, after so many requests, everyone to whom the server did not hand out credentials."""
        request = Request(f"{self.endpoint}/moto-api/reset-auth", str(requests).encode(), method="POST")
        request.add_header("Content-Type", "text/plain")
        with urlopen(request):
            pass

    def stop(self) -> None:
        """End the server: nobody answers any more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if self.is_busy:
            start_response(BUSY, [("Content-Length", "0")])
            return []
        return self._app(environ, start_response)  # type: ignore[no-any-return]


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Start a server, make a bucket, and set the environment of this process and of those that it starts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ObjectStore()
    with pytest.MonkeyPatch.context() as patch:
        for name in UNSET:
            patch.delenv(name, raising=False)
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": store.endpoint}.items():
            patch.setenv(name, value)
        try:
            boto3.client("s3").create_bucket(Bucket=store.bucket)
            yield store
        finally:
            store.stop()
