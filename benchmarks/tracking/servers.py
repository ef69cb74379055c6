"""MLflow's server and the PostgreSQL behind it, as processes on loopback that end with a block."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.servers import answers, free_port
from benchmarks.soak.programs import Program

DEBIANS = Path("/usr/lib/postgresql")
"""Where Debian keeps PostgreSQL's programs, by version and off the PATH."""
UNPRIVILEGED = "nobody"
"""Who runs PostgreSQL where we are root, which it refuses."""
VARIABLES = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs, of the newest version; None where it is not installed."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    installed = [path.parent for path in DEBIANS.glob("*/bin/initdb")]
    return max(installed, key=lambda path: float(path.parent.name), default=None)


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL with an empty database in a new folder; the address is SQLAlchemy's.

    Raises:
        RuntimeError: it is not installed, or does not start.
    """
    programs = find_postgres()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        home, port = Path(folder), free_port()
        prefix = _drop_privileges(home)
        create = [str(programs / "initdb"), "-D", f"{home}/db", "--auth=trust", "--username=mlflow", "--no-sync"]
        subprocess.run([*prefix, *create], check=True, capture_output=True, cwd=home)
        serve = [str(programs / "postgres"), "-D", f"{home}/db", "-p", str(port)]
        serve += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        program = Program(
            "PostgreSQL", [*prefix, *serve], home / "log", lambda: subprocess.run(ready, check=False).returncode == 0
        )
        with running(program):
            yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"


def _drop_privileges(home: Path) -> list[str]:
    """Give the folder to a user who is not root, and return what runs a command as that user."""
    if os.geteuid() != 0:
        return []
    shutil.chown(home, UNPRIVILEGED)
    user = home.stat()
    return ["setpriv", f"--reuid={user.st_uid}", f"--regid={user.st_uid}", "--clear-groups"]


@contextmanager
def mlflow_server(folder: Path, database: str) -> Iterator[str]:
    """Run MLflow's server on a database; runs' files lie in ``folder``.

    Raises:
        RuntimeError: it does not start, as without a driver for the database.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "files")]
    program = Program("MLflow", command, folder / "mlflow.log", lambda: answers(port, "/health"), VARIABLES)
    with running(program):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(program: Program) -> Iterator[None]:
    """Run a program for as long as the block lasts."""
    try:
        program.start()
        yield
    finally:
        program.end()
