"""One small table and its schema, with the changes that a test wants."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import yaml

from pipelines.prepare.table import prepare
from recsys_mtl.config import ConfigError
from recsys_mtl.data.raw import SPLITS, RawData

COLUMNS: dict[str, list[Any]] = {
    "user": [1, 1, 2, 2, 3, 3],
    "video": ["a", "b", "a", "c", "b", "c"],
    "age": [20.0, 20.0, 31.5, 31.5, 40.0, 40.0],
    "click": [0, 1, 1, 0, 1, 0],
    "fold": ["train", "train", "train", "train", "valid", "test"],
}
SCHEMA: dict[str, Any] = {
    "features": [
        {"kind": "id", "name": "user", "entity": "user"},
        {"kind": "id", "name": "video", "entity": "item"},
        {"kind": "number", "name": "age", "entity": "user"},
    ],
    "tasks": [{"kind": "binary", "name": "click"}],
    "group": "user",
    "split": {"kind": "column", "column": "fold", "values": {"train": "train", "valid": "valid", "test": "test"}},
}
Make = Callable[..., RawData]


def maker(folder: Path) -> Make:
    """Prepare `COLUMNS` with changes, as CSV or Parquet, under `SCHEMA` with changes."""

    def run(columns: dict[str, Any] | None = None, *, parquet: bool = False, **schema: Any) -> RawData:
        frame = pl.DataFrame(COLUMNS | (columns or {}), strict=False)
        path = folder / ("table.parquet" if parquet else "table.csv")
        frame.write_parquet(path) if parquet else frame.write_csv(path)
        return prepare(write_schema(folder, **schema), [str(path)])

    return run


def write_schema(folder: Path, **changes: Any) -> Path:
    """Write `SCHEMA` with changes; None takes a field away."""
    path = folder / "schema.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (SCHEMA | changes).items() if value is not None}))
    return path


def feature(**fields: Any) -> dict[str, Any]:
    """Return the change of the schema that adds a feature."""
    return {"features": [*SCHEMA["features"], {"entity": "item"} | fields]}


def task(**fields: Any) -> dict[str, Any]:
    """Return the change of the schema that adds a task."""
    return {"tasks": [*SCHEMA["tasks"], fields]}


def read(raw: RawData, split: str | None = None) -> Any:
    """Read one split, or all of them, as one Arrow table."""
    return pa.concat_tables([table for name in ([split] if split else SPLITS) for table in raw.splits[name]()])


def problems(make: Callable[[], object]) -> tuple[str, ...]:
    """Return what the user is told."""
    with pytest.raises(ConfigError) as error:
        make()
    return error.value.problems


def problem(make: Callable[[], object]) -> str:
    """Return the only thing that the user is told, without the folders before the file's name."""
    (only,) = problems(make)
    return only.rpartition("/")[2]
