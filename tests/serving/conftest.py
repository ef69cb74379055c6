from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from recsys_mtl.bundle import Bundle
from serving.app import create_app
from serving.loading import Load, load
from serving.settings import Settings
from tests import builders
from tests.serving.world import until_settled

Start = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # as in the service, and whichever test comes first


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serving") / "data"
    builders.prepared(path)
    return path


@pytest.fixture(scope="session")
def bundle_path(data: Path) -> Path:
    path = data.parent / "untrained"
    builders.bundle(path, data)
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.load(bundle_path)


@pytest.fixture(scope="session")
def start(bundle_path: Path) -> Start:
    @contextmanager
    def started(model: Path = bundle_path, load: Load = load, **settings: Any) -> Iterator[TestClient]:
        app = create_app(Settings(model=str(model), **settings), load)
        with TestClient(app) as client:
            yield until_settled(client)

    return started


@pytest.fixture(scope="session")
def client(start: Start) -> Iterator[TestClient]:
    with start() as client:
        yield client
