"""Expert health: the three anomalies that HoME names, as numbers, tables and alarms.

Collapse (an expert's output is nearly all zeros, or on another scale than its neighbours'), degradation (a shared
expert serves one task only) and underfitting (a task makes no use of its own experts). The paper's text was not
available: the numbers are a reconstruction from its abstract (Wang et al., HoME, KDD 2025) and notes on its figures.
"""

from recsys_mtl.health.alarms import Alarm, HealthConfig, alarms
from recsys_mtl.health.measures import ExpertHealth, Gradients, Health, LayerHealth, ReaderHealth, measure
from recsys_mtl.health.recorder import HealthRecord, Recorder
from recsys_mtl.health.records import BankRecord, GateRecord, GradientRecord, RowSample

__all__ = [
    "Alarm",
    "BankRecord",
    "ExpertHealth",
    "GateRecord",
    "GradientRecord",
    "Gradients",
    "Health",
    "HealthConfig",
    "HealthRecord",
    "LayerHealth",
    "ReaderHealth",
    "Recorder",
    "RowSample",
    "alarms",
    "measure",
]
