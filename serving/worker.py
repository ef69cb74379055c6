"""``python -m serving.worker``: one of the processes that answer; only a supervisor starts it.

It takes its first connection when its models have been loaded, or could not be: until then the others answer.
"""

import json
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn

from serving.logs import configure_logging
from serving.run import quieten, server_of
from serving.settings import Settings
from serving.shared import Shared

log = logging.getLogger("serving")


class Lifeline:
    """The pipe from the supervisor, which is closed when that is no more, whatever its end was."""

    def __init__(self) -> None:
        self.server: uvicorn.Server | None = None
        self.is_cut = False

    def watch(self) -> None:
        """End the process after the supervisor: at once, or with the requests in flight."""
        threading.Thread(target=self._wait, name="lifeline", daemon=True).start()

    def _wait(self) -> None:
        while os.read(sys.stdin.fileno(), 4096):  # not by its buffer, whose lock an interpreter that ends would want
            pass
        self.is_cut = True
        if self.server is None:
            os._exit(1)
        log.error("the supervisor is gone; worker %d ends", os.getpid())
        self.server.should_exit = True


def main() -> int:
    """Load the models, then answer until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group: the supervisor says when to end
    order: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    lifeline = Lifeline()
    lifeline.watch()
    settings = Settings(**order["settings"])
    configure_logging(settings.log_format)
    shared = Shared(Path(order["directory"]), order["number"]).join()
    with socket.socket(fileno=order["listener"]) as listener:
        lifeline.server = server = prepared(settings, shared)
        server.run(sockets=[listener])
    if lifeline.is_cut:
        shutil.rmtree(shared.directory, ignore_errors=True)
    return 0


def prepared(settings: Settings, shared: Shared) -> uvicorn.Server:
    """Make the server, with its models in place."""
    from serving.app import app_of
    from serving.service import Service

    quieten()
    service = Service(settings, shared=shared)
    service.start()
    service.follower.settled.wait()
    return server_of(app_of(service))


if __name__ == "__main__":
    sys.exit(main())
