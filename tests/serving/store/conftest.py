from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from rich.console import Console

from serving.store.publish import PublishConfig, run
from tests.redis_server import RedisServer, redis_server
from tests.serving.conftest import Start

Publish = Callable[..., str]
PATIENT_MS = 10_000
"""Tests of what a store says wait for it; those of its time-outs set their own."""


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["parquet", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store."""
    if request.param == "parquet":
        return f"parquet:{tmp_path / 'features'}"
    server: RedisServer = request.getfixturevalue("redis")
    server.client.flushall()
    return server.url


def publish(data: Path, to: str, **options: object) -> None:
    run(PublishConfig.model_validate({"data": str(data), "to": to, **options}), Console(quiet=True))


@contextmanager
def served(start: Start, address: str, **settings: object) -> Iterator[TestClient]:
    with start(store=address, **{"store_timeout_ms": PATIENT_MS, **settings}) as client:
        yield client


Served = Callable[..., AbstractContextManager[TestClient]]
