"""Results of a benchmark on disk: a file for each finished run, so that a benchmark that was killed goes on."""

import hashlib
import json
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """A folder of results. A run is found by the digest of all that decides about its outcome."""

    folder: Path

    def path(self, name: str, settings: Any) -> Path:
        """Where the result of a run lies, or will lie."""
        return self.folder / f"{slug(name)}-{digest(settings)}.json"

    def find(self, name: str, settings: Any) -> Result | None:
        """Return a run's result; None if it has not finished with these settings."""
        path = self.path(name, settings)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def save(self, name: str, settings: Any, result: Result) -> Result:
        """Keep a run's result and return it as it will be read: at once and whole, or not at all."""
        path = self.path(name, settings)
        write_whole(path, json.dumps(plain(result), indent=2, allow_nan=False))
        return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


def digest(settings: Any) -> str:
    """Hash a tree of plain values, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def slug(name: str) -> str:
    """Make a file name of a model's name: ``MMoE*`` and ``DTRN+MMoE`` stay apart from ``MMoE``."""
    words = name.lower().replace("*", "-star").replace("+", "-")
    return re.sub(r"[^a-z0-9._-]+", "-", words)


def plain(tree: Any) -> Any:
    """Replace what JSON does not have, NaN and infinity, by null."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
