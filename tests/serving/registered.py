"""A registry with bundles in it, for services that follow it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from recsys_mtl import registry
from recsys_mtl.registry import RegistryConfig
from recsys_mtl.tracking import Run, TrackingConfig
from serving.app import create_app
from serving.loading import Load, load
from serving.settings import Settings
from tests import builders
from tests.serving.world import Json

CHAMPION = "models:/shop@champion"


@dataclass(frozen=True)
class Shop:
    """The registered model ``shop`` of one tracking store."""

    uri: str
    data: Path

    def add(self, folder: Path) -> int:
        """Register a bundle; return its version."""
        with Run.start(TrackingConfig(uri=self.uri), "trained", params={}, tags={}) as run:
            run.log_artifacts(folder, "bundle")
        config = RegistryConfig(name="shop", alias="newest")
        return registry.register(self.uri, run.run_id, registry=config, description="", tags={})

    def add_trained(self, folder: Path, seed: int) -> int:
        """Register a sound bundle."""
        builders.bundle(folder, self.data, seed=seed)
        return self.add(folder)

    def add_broken(self, folder: Path, seed: int) -> int:
        """Register a bundle whose scores are not those that it had when it was written."""
        builders.bundle(folder, self.data, seed=seed)
        golden = folder / "golden.jsonl"
        golden.write_text(golden.read_text().replace('"click": 0.', '"click": 0.1'))
        return self.add(folder)

    def point(self, version: int, alias: str = "champion") -> None:
        """Move an alias."""
        registry.set_alias(self.uri, "shop", alias=alias, version=version)


@contextmanager
def following_service(shop: Shop, cache: Path, load: Load = load, **settings: Any) -> Iterator[TestClient]:
    chosen = Settings(model=CHAMPION, tracking_uri=shop.uri, cache_dir=cache, poll_seconds=0.05, **settings)
    app = create_app(chosen, load)
    with TestClient(app) as client:
        assert app.state.service.follower.settled.wait(60)
        yield client


def state(client: TestClient) -> Json:
    found: Json = client.get("/v1/models").json()["states"][0]
    return found


def until_state(client: TestClient, is_reached: Callable[[Json], bool]) -> Json:
    deadline = time.monotonic() + 60
    while not is_reached(now := state(client)):
        assert time.monotonic() < deadline, now
        time.sleep(0.02)
    return now


def is_version(version: str) -> Callable[[Json], bool]:
    return lambda now: now["model"] is not None and now["model"]["version"] == version
