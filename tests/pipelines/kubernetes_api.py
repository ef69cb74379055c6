"""A Kubernetes API that knows RayJobs and nothing else: over TLS, with a token, on loopback."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PATH = "/apis/ray.io/v1/namespaces/recsys/rayjobs"


@dataclass
class Cluster:
    """What the API has, and what becomes of it: a job's next status with every look at it."""

    address: str
    credentials: Path
    statuses: list[dict[str, Any] | None]
    """Of the job, one look after another; None: it has been deleted."""
    faults: list[int] = field(default_factory=list)
    """Statuses of the next answers, whatever was asked."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, method: str, path: str, token: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        if self.faults:
            return self.faults.pop(0), {"message": "not now"}
        if token != f"Bearer {(self.credentials / 'token').read_text()}":
            return 401, {"message": "Unauthorized"}
        if method == "POST" and path == PATH and body is not None:
            name = body["metadata"]["name"]
            if name in self.jobs:
                return 409, {"message": f"rayjobs {name!r} already exists"}
            self.jobs[name] = body
            return 201, body
        name = path.removeprefix(f"{PATH}/")
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if name not in self.jobs or status is None:
            return 404, {"message": f"rayjobs {name!r} not found"}
        return 200, self.jobs[name] | {"status": status}


@contextmanager
def cluster(folder: Path, *statuses: dict[str, Any] | None) -> Iterator[Cluster]:
    """Run the API; ``folder`` becomes what Kubernetes mounts into a pod."""
    key = certificate(folder)
    (folder / "token").write_text("first")
    (folder / "namespace").write_text("recsys")

    class OfThisCluster(Handler):
        """Answers for one cluster, beside which there may be others."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), OfThisCluster)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    running = Cluster(f"https://127.0.0.1:{server.server_address[1]}", folder, list(statuses))
    OfThisCluster.cluster = running
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Reads a request and lets the cluster answer."""

    cluster: Cluster

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        status, answer = self.cluster.answer(self.command, self.path, self.headers["Authorization"], body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 that vouches for itself; return the file of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    today = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    signed = builder.sign(key, hashes.SHA256())
    (folder / "ca.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    file = folder / "server.key"
    kind = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *kind))
    return file
