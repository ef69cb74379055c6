"""A run's configuration as MLflow's flat parameters."""

import json
import re
from collections.abc import Mapping
from typing import Any

from recsys_mtl.tracking.store import hide_passwords

VALUE_LENGTH = 6000
"""Longest value that MLflow keeps."""


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turn a tree into ``path.to.field`` -> text; the run's ``config.yaml`` holds what is cut off here."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        path = prefix + re.sub(r"[^\w\-./: ]", "_", str(key))
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, path + ".")
        else:
            text = hide_passwords(value if isinstance(value, str) else json.dumps(value))
            flat[path] = text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 1] + "…"
    return flat
