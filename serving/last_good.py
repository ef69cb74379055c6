"""The last version of each address that passed its checks, remembered on disk for a start without a registry."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from recsys_mtl.registry import BundlePlace
from recsys_mtl.storage import locate


def remember(place: BundlePlace, uri: str, registry: str, *, cache: Path) -> None:
    """Note that ``uri`` meant ``place``, and that it was good."""
    locate(_note(uri, registry, cache)).write_text(json.dumps({"uri": uri, **asdict(place)}))


def recall(uri: str, registry: str, *, cache: Path) -> BundlePlace | None:
    """Return what ``uri`` last meant, if a copy of that is still in the cache."""
    try:
        fields = json.loads(_note(uri, registry, cache).read_bytes())
        del fields["uri"]
        place = BundlePlace(**fields)
    except (OSError, ValueError, KeyError, TypeError):  # no note, or one of another release
        return None
    return place if (cache / place.folder).is_dir() else None


def _note(uri: str, registry: str, cache: Path) -> Path:
    name = hashlib.sha256(f"{registry} {uri}".encode()).hexdigest()[:32]
    return cache / "last-good" / f"{name}.json"
