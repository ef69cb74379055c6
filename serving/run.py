"""Runs the service: one address, and one process or several, until it is told to stop."""

import logging
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from recsys_mtl.config import ConfigError
from serving.keyring import check_keys
from serving.logs import configure_logging
from serving.settings import DRAIN_SECONDS, Settings, check_addresses, read_settings
from serving.store.publication import check_store
from serving.supervisor import Supervisor

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("serving")

CHATTER = ("torch", "torchrec", "fbgemm_gpu", "mlflow", "alembic")


def run(**overrides: Any) -> int:
    """Serve until a signal ends it; ``overrides`` are settings that go before the environment. Return the exit code."""
    try:
        settings = read_settings(**overrides)
        configure_logging(settings.log_format)
        check_addresses(settings)
        check_keys(settings)
        check_store(settings.store)
        serve(settings)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def serve(settings: Settings) -> None:
    """Listen, load the models and answer.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    listener = listen(settings.host, settings.port)
    log.info("listening on %s (API at /docs), loading %s", address_of(listener), settings.model)
    if settings.workers > 1 or settings.supervise:
        Supervisor(settings, listener).run()
        return
    # Not at the top: importing torch takes seconds, which neither a wrong setting nor a supervisor need wait for.
    from serving.app import create_app

    quieten()
    with listener, suppress(KeyboardInterrupt):
        server_of(create_app(settings)).run(sockets=[listener])


def server_of(app: "FastAPI") -> uvicorn.Server:
    """Make the server of an app."""
    from serving.connections import GuardedProtocol
    from serving.draining import DrainingServer

    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return DrainingServer(config, app.state.service)


def listen(host: str, port: int) -> socket.socket:
    """Take an address before anything slow is done.

    Raises:
        ConfigError: it is in use, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError([f"port: cannot listen on {host}:{port}: {str(error.strerror).partition(' (')[0]}"]) from None


def address_of(listener: socket.socket) -> str:
    """Write the address as one that a browser takes."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def quieten() -> None:
    """Let libraries say only what is wrong; after their import, in which torch sets the levels of its loggers."""
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)
