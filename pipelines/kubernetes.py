"""The Kubernetes API, as a pod with a service account reaches it."""

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from recsys_mtl.config import ConfigError

CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts a pod's token, its namespace and the API's certificate."""
TIMEOUT_S = 30
PATIENCE_S = 600.0
"""How long the API may be away, as it is while a control plane is exchanged."""
PASSING = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY,
           HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}  # fmt: skip


class RefusedError(Exception):
    """The API does not do it, and would not if it were asked again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Objects of one namespace."""

    def __init__(
        self, address: str, credentials: Path, *, pause_s: float = 5.0, patience_s: float = PATIENCE_S
    ) -> None:
        self.address, self.credentials = address, credentials
        self.pause_s, self.patience_s = pause_s, patience_s
        self.namespace = (credentials / "namespace").read_text(encoding="utf-8").strip()
        trusted = ssl.create_default_context(cafile=str(credentials / "ca.crt"))
        no_proxies = urllib.request.ProxyHandler({})  # the API is within the cluster, whatever the way out of it is
        self.opener = urllib.request.build_opener(no_proxies, urllib.request.HTTPSHandler(context=trusted))

    @classmethod
    def of_this_pod(cls) -> Self:
        """Return the API of the cluster that this process runs in.

        Raises:
            ConfigError: it is no pod that may talk to the API.
        """
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
        if host is None or not (CREDENTIALS / "token").is_file():
            raise ConfigError([f"no Kubernetes API: this is no pod with a token in {CREDENTIALS}"])
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}", CREDENTIALS)

    def create(self, version: str, kind: str, manifest: dict[str, Any]) -> bool:
        """Make an object; False if there is one of this name.

        Raises:
            RefusedError: the API does not take it.
        """
        try:
            self._call("POST", self._path(version, kind), manifest)
        except RefusedError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return False
        return True

    def read(self, version: str, kind: str, name: str) -> dict[str, Any]:
        """Return an object.

        Raises:
            RefusedError: there is none, or it may not be read.
        """
        return self._call("GET", f"{self._path(version, kind)}/{name}")

    def _path(self, version: str, kind: str) -> str:
        return f"/apis/{version}/namespaces/{self.namespace}/{kind}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return self._once(method, path, body)
            except urllib.error.HTTPError as error:
                if error.code not in PASSING or time.monotonic() >= deadline:
                    raise RefusedError(error.code, message_of(error)) from None
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise RefusedError(0, f"the API does not answer: {error}") from None
            time.sleep(self.pause_s)

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        token = (self.credentials / "token").read_text(encoding="utf-8")  # a new one every hour
        headers = {"Authorization": f"Bearer {token.strip()}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", content, headers, method=method)
        with self.opener.open(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)  # type: ignore[no-any-return]


def message_of(error: urllib.error.HTTPError) -> str:
    """Return what the API says of a refusal."""
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
