"""``python -m helm.schema``: write the chart's ``values.schema.json``, by which helm refuses wrong values.

The part on training is the schema of `TrainRun`, that on serving the schema of the service's `Settings`.
"""

import json
from pathlib import Path
from typing import Any

from helm.values import Values

CHART = Path(__file__).parent / "recsys-mtl"
FILE = CHART / "values.schema.json"
SET_BY_THE_CHART = {
    "TrainRun": ("run_name",),
    "DataConfig": ("path",),
    "ClusterConfig": ("address",),
    "TrackingConfig": ("uri",),
    "Settings": ("host", "port", "tracking_uri", "cache_dir", "api_keys", "api_keys_file"),
}
"""Fields that a user does not give here: the chart knows them, or they have a place of their own in the values."""


def main() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")


def text() -> str:
    """Return the file's content."""
    schema = Values.model_json_schema()
    for name, fields in SET_BY_THE_CHART.items():
        leave_out(schema["$defs"][name], fields)
    schema["$defs"]["TrainRun"].pop("required")  # its data are named by the jobs
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **plain(schema)}, indent=1) + "\n"


def leave_out(definition: dict[str, Any], fields: tuple[str, ...]) -> None:
    """Remove fields of an object, which are refused then."""
    for field in fields:
        del definition["properties"][field]
    if required := [name for name in definition.pop("required", []) if name not in fields]:
        definition["required"] = required


def plain(node: Any) -> Any:
    """Leave out titles, and the rule that only one alternative may fit: presets name the ``kind``, values need not."""
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    names = {"oneOf": "anyOf"}
    dropped = {"discriminator"} | ({"title"} if isinstance(node.get("title"), str) else set())
    return {names.get(key, key): plain(value) for key, value in node.items() if key not in dropped}


if __name__ == "__main__":
    main()
