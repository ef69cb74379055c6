"""Validates objects as an API server would, without one: Kubernetes' own schemas, and those of custom resources."""

import json
import lzma
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

from tests.chart.charts import Manifest

CRDS = Path(__file__).parent / "crds"


def problems(manifest: Manifest, version: str) -> list[str]:
    """List what an API server of a Kubernetes release would refuse: unknown fields, missing ones, wrong values."""
    custom = custom_kinds().get((manifest["apiVersion"], manifest["kind"]))
    if custom is not None:
        return [f"{error.json_path}: {error.message[:200]}" for error in custom.iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except jsonschema.ValidationError as error:
        return [f"{error.json_path}: {error.message[:200]}"]
    return []


@cache
def custom_kinds() -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    """Return a validator for each kind of custom resource, by version and kind."""
    found = {}
    for file in sorted(CRDS.glob("*.json.xz")):
        crd = json.loads(lzma.decompress(file.read_bytes()))
        schema = strict(crd["schema"])
        schema["properties"]["metadata"] = {"type": "object"}  # every object's, which the definition does not repeat
        found[f"{crd['group']}/{crd['version']}", crd["kind"]] = jsonschema.Draft202012Validator(schema)
    return found


def strict(node: Any) -> Any:
    """Turn a structural schema of Kubernetes into JSON schema, in which fields that nobody knows are refused."""
    if isinstance(node, list):
        return [strict(child) for child in node]
    if not isinstance(node, dict):
        return node
    schema = {key: strict(child) for key, child in node.items() if not key.startswith("x-kubernetes-")}
    if node.get("x-kubernetes-int-or-string"):
        schema |= {"anyOf": [{"type": "integer"}, {"type": "string"}]}
        schema.pop("type", None)
    open_ended = "x-kubernetes-preserve-unknown-fields" in node or "additionalProperties" in node
    if isinstance(node.get("properties"), dict) and not open_ended and node.get("type") == "object":
        schema["additionalProperties"] = False
    return schema


def nulls(node: Any, path: str = "") -> Iterator[str]:
    """Find fields without a value, such as a template leaves behind; a server would drop them in silence."""
    if node is None:
        yield path
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from nulls(child, f"{path}.{key}")
