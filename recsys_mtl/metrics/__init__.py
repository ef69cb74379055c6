"""Evaluation metrics per task: streaming, of bounded memory, reduced over workers."""

from recsys_mtl.metrics.bank import MetricBank, TaskMetrics
from recsys_mtl.metrics.binary import BinaryAccumulator, BinaryMetrics, Reliability, RocCurve
from recsys_mtl.metrics.grouped import GroupedAUC, GroupedMetrics, GroupScores
from recsys_mtl.metrics.regression import RegressionAccumulator, RegressionMetrics

__all__ = [
    "BinaryAccumulator",
    "BinaryMetrics",
    "GroupScores",
    "GroupedAUC",
    "GroupedMetrics",
    "MetricBank",
    "RegressionAccumulator",
    "RegressionMetrics",
    "Reliability",
    "RocCurve",
    "TaskMetrics",
]
