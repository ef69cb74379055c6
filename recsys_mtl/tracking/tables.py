"""Tables of a run that grow while it lasts, as MLflow's pages show them."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_mtl.tracking.client import RunHandle

Row = Mapping[str, Any]
SHOWN_TABLES = "mlflow.loggedArtifacts"
"""Tag by which MLflow's pages know which files are tables."""


class Table:
    """One table, kept as a JSON file of columns and rows that is written anew each time it grows.

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
        rows = merged(self._before, self.rows, self.key)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        data = [[plain(row.get(name)) for name in columns] for row in rows]
        self.run.log_text(json.dumps({"columns": columns, "data": data}), self.path)
        self._show()

    def _stored(self) -> list[Row]:
        folder = self.path.rpartition("/")[0]
        if not any(file.path == self.path for file in self.run.client.list_artifacts(self.run.run_id, folder or None)):
            return []
        with tempfile.TemporaryDirectory() as directory:
            file = Path(self.run.client.download_artifacts(self.run.run_id, self.path, directory))
            table = json.loads(file.read_text(encoding="utf-8"))
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]

    def _show(self) -> None:
        shown = json.loads(self.run.client.get_run(self.run.run_id).data.tags.get(SHOWN_TABLES, "[]"))
        this = {"path": self.path, "type": "table"}
        if this not in shown:
            self.run.set_tags({SHOWN_TABLES: json.dumps([*shown, this])})


def merged(old: Sequence[Row], new: Sequence[Row], key: tuple[str, ...]) -> list[Row]:
    """Add new rows; those that were measured before give way to them."""
    measured = {tuple(row[name] for name in key) for row in new}
    return [row for row in old if tuple(row[name] for name in key) not in measured] + list(new)


def plain(value: Any) -> Any:
    """Replace numbers that JSON does not have by null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
