"""Tables among a run's files, as MLflow's own pages show them."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.client import RunHandle, connect

Row = Mapping[str, Any]
SHOWN_TABLES = "mlflow.loggedArtifacts"
"""Tag by which MLflow's pages know which files are tables."""


def log_table(uri: str, run_id: str, rows: Sequence[Row], path: str) -> None:
    """Keep rows, each by column, as the table ``path``, a ``.json`` file, among a run's files.

    A table of that path is replaced. ``mlflow.load_table`` reads it.

    Raises:
        ConfigError: the tracking store cannot be used, or does not take the table.
    """
    from mlflow.exceptions import MlflowException

    try:
        write_table(RunHandle(connect(uri), run_id), rows, path)
    except (MlflowException, OSError) as error:
        raise ConfigError([f"run {run_id}: {path}: {error}"]) from None


class Table:
    """A table that grows while a run lasts: a JSON file of columns and rows, written anew each time it grows.

    MLflow's own ``log_table`` appends whatever it is given: what a resumed run measures again would be there twice.
    """

    def __init__(self, run: RunHandle, path: str, key: tuple[str, ...]) -> None:
        """``key`` names the columns that tell measurements apart: the newest of each stays."""
        self.run, self.path, self.key = run, path, key
        self.rows: list[Row] = []
        self._before: list[Row] | None = None
        """What the run had before it was resumed, once it has been read."""

    def add(self, rows: Sequence[Row]) -> None:
        """Add a measurement's rows."""
        self.rows = merged(self.rows, rows, self.key)

    def write(self) -> None:
        """Bring the file up to date."""
        if self._before is None:
            self._before = self._stored()
        write_table(self.run, merged(self._before, self.rows, self.key), self.path)

    def _stored(self) -> list[Row]:
        folder = self.path.rpartition("/")[0]
        if not any(file.path == self.path for file in self.run.client.list_artifacts(self.run.run_id, folder or None)):
            return []
        with tempfile.TemporaryDirectory() as directory:
            file = Path(self.run.client.download_artifacts(self.run.run_id, self.path, directory))
            table = json.loads(file.read_text(encoding="utf-8"))
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def write_table(run: RunHandle, rows: Sequence[Row], path: str) -> None:
    """Write a table as MLflow's ``log_table`` would, and make it one that MLflow's pages know."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    data = [[plain(row.get(name)) for name in columns] for row in rows]
    run.log_text(json.dumps({"columns": columns, "data": data}, allow_nan=False), path)
    shown = json.loads(run.client.get_run(run.run_id).data.tags.get(SHOWN_TABLES, "[]"))
    this = {"path": path, "type": "table"}
    if this not in shown:
        run.set_tags({SHOWN_TABLES: json.dumps([*shown, this])})


def merged(old: Sequence[Row], new: Sequence[Row], key: tuple[str, ...]) -> list[Row]:
    """Add new rows; those that were measured before give way to them."""
    measured = {tuple(row[name] for name in key) for row in new}
    return [row for row in old if tuple(row[name] for name in key) not in measured] + list(new)


def plain(value: Any) -> Any:
    """Replace numbers that JSON does not have by null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
