"""A registry with bundles in it, for services that follow it."""

from dataclasses import dataclass
from pathlib import Path

from recsys_mtl import registry
from recsys_mtl.registry import RegistryConfig
from recsys_mtl.tracking import Run, TrackingConfig
from tests import builders

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
