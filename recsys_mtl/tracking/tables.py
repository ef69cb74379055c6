"""Tables among a run's files, as MLflow's own pages show them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.client import RunHandle, connect

INDEX = "mlflow.loggedArtifacts"
"""Tag by which MLflow's pages know which of a run's files are tables."""


def log_table(uri: str, run_id: str, rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """Keep rows, each by column, as the table ``path``, a ``.json`` file, among a run's files.

    A table of that path is replaced; MLflow's own ``log_table`` would add rows to it. ``mlflow.load_table`` reads it.

    Raises:
        ConfigError: the tracking store cannot be used, or does not take the table.
    """
    from mlflow.exceptions import MlflowException

    run = RunHandle(connect(uri), run_id)
    columns = list(rows[0]) if rows else []
    table = {"columns": columns, "data": [[row[column] for column in columns] for row in rows]}
    try:
        run.log_text(json.dumps(table, allow_nan=False), path)
        known = json.loads(run.client.get_run(run_id).data.tags.get(INDEX, "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in known:
            run.set_tags({INDEX: json.dumps([*known, entry])})
    except (MlflowException, OSError) as error:
        raise ConfigError([f"run {run_id}: {path}: {error}"]) from None
