"""Runs in MLflow: parameters, metrics by global step, pictures and files, and how a run ends.

Importing MLflow takes about three seconds, which neither ``--help`` nor a worker that logs nothing should wait for:
this package and ``registry``, the only ones that use it, import it inside of functions.
"""

from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.ending import Ending
from recsys_mtl.tracking.inputs import DataSet, log_data
from recsys_mtl.tracking.machine import Machine
from recsys_mtl.tracking.metric_log import MetricLog
from recsys_mtl.tracking.patience import UndeliveredError, may_pass, patiently
from recsys_mtl.tracking.run import Run, find_unfinished
from recsys_mtl.tracking.store import TrackingConfig

__all__ = [
    "DataSet",
    "Ending",
    "Machine",
    "MetricLog",
    "Run",
    "TrackingConfig",
    "UndeliveredError",
    "connect",
    "find_unfinished",
    "log_data",
    "may_pass",
    "patiently",
]
