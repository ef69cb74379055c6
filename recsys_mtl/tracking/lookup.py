"""Runs by what people call them."""

import re

from recsys_mtl.config import ConfigError
from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.store import hide_passwords


def find_run(uri: str, name: str) -> str:
    """Return the id of the run with that id, or of the one finished run of that name.

    Raises:
        ConfigError: there is no such run, there are several, or the tracking store cannot be used.
    """
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    if '"' in name:
        raise ConfigError([f"{name}: a name with a quotation mark, which MLflow cannot search for: give the run's id"])
    if re.fullmatch(r"[0-9a-f]{32}", name):
        try:
            return str(client.get_run(name).info.run_id)
        except MlflowException as error:
            raise ConfigError([f"{name}: {error}"]) from None
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    named = f"attributes.run_name = \"{name}\" and attributes.status = 'FINISHED'"
    found = [run.info.run_id for run in client.search_runs(experiments, named, order_by=["start_time DESC"])]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise ConfigError([f"{name}: {len(found)} finished runs have this name; give one's id: {', '.join(found)}"])
    raise ConfigError([f"{name}: no finished run of this name at {hide_passwords(uri)}"])
