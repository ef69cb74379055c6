"""Calibration: from a task's logit to a probability that can be taken at its word."""

from recsys_mtl.calibration.calibrators import (
    Calibration,
    Calibrator,
    Identity,
    Isotonic,
    Platt,
    corrected,
    natural_unit,
    predictions,
)
from recsys_mtl.calibration.choice import Choice, Counts, Method, choose
from recsys_mtl.calibration.isotonic import fit_isotonic
from recsys_mtl.calibration.platt import fit_platt

__all__ = [
    "Calibration",
    "Calibrator",
    "Choice",
    "Counts",
    "Identity",
    "Isotonic",
    "Method",
    "Platt",
    "choose",
    "corrected",
    "fit_isotonic",
    "fit_platt",
    "natural_unit",
    "predictions",
]
