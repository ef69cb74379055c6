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
from recsys_mtl.calibration.level import levelled, mean_chance
from recsys_mtl.calibration.platt import MIN_EVENTS, fit_platt

__all__ = [
    "MIN_EVENTS",
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
    "levelled",
    "mean_chance",
    "natural_unit",
    "predictions",
]
