"""Health as a tracking store shows it: charts by step, tables, tags."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from recsys_mtl.health.alarms import Alarm, HealthConfig, collapsed, dead
from recsys_mtl.health.measures import Health, LayerHealth

Row = dict[str, Any]
ILLEGAL = r"[^\w\-./: ]"
"""What the names of MLflow's charts cannot have; those of groups of tasks can."""


def charts(health: Health, config: HealthConfig) -> dict[str, float]:
    """Return one value for each chart: a handful per layer, one per shared expert and per task with own experts."""
    values = {
        f"health/{layer.name}/{name}": value
        for layer in health.layers
        for name, value in _layer_charts(layer, config).items()
    }
    if cosines := list(health.gradients.pairs.values()):
        values["health/gradient_cosine/mean"] = sum(cosines) / len(cosines)
        values["health/gradient_cosine/min"] = min(cosines)
    return {re.sub(ILLEGAL, "_", name): value for name, value in values.items() if not math.isnan(value)}


def _layer_charts(layer: LayerHealth, config: HealthConfig) -> dict[str, float]:
    values = {
        "scale_ratio": layer.scale_ratio,
        "collapsed_experts": sum(collapsed(expert, config) for expert in layer.experts),
        "dead_experts": sum(dead(expert, config) for expert in layer.experts),
        "own_mass_by_positive_rate": layer.own_mass_by_rate,
    }
    values |= {f"occupancy/{expert.name}": expert.occupancy for expert in layer.experts}
    return values | {f"own_mass/{reader.name}": reader.own_mass for reader in layer.readers}


def tables(health: Health, found: Sequence[Alarm], *, split: str, step: int) -> dict[str, list[Row]]:
    """Return the rows that an evaluation adds to each table, by the table's file."""
    place: Row = {"split": split, "step": step}
    rows = {
        "health/experts.json": expert_rows(health),
        "health/readers.json": reader_rows(health),
        "health/gradients.json": [{"task": a, "other": b, "cosine": c} for (a, b), c in health.gradients.pairs.items()],
        "health/alarms.json": [{"kind": alarm.kind, "alarm": alarm.text} for alarm in found],
    }
    return {path: [place | row for row in these] for path, these in rows.items()}


def expert_rows(health: Health) -> list[Row]:
    """Describe every expert by a row."""
    return [
        {
            "layer": layer.name,
            "expert": expert.name,
            "readers": len(expert.readers),
            "mean": expert.mean,
            "sd": expert.sd,
            "zero_ratio": expert.zero_ratio,
            "max_gate_weight": expert.weight,
            "occupancy": expert.occupancy,
            "effective_readers": expert.effective_readers,
            "heaviest_reader": expert.heaviest,
        }
        for layer in health.layers
        for expert in layer.experts
    ]


def reader_rows(health: Health) -> list[Row]:
    """Describe every reader in every layer by a row."""
    return [
        {
            "layer": layer.name,
            "reader": reader.name,
            "entropy": reader.entropy,
            "top1_share": reader.top1_share,
            "own_mass": reader.own_mass,
            "uniform_mass": reader.uniform_mass,
            "positive_rate": reader.positive_rate,
        }
        for layer in health.layers
        for reader in layer.readers
    ]


def tags(health: Health, found: Sequence[Alarm]) -> dict[str, str]:
    """Return the run's tags: ``ok``, or the kinds of alarms, and the alarms themselves."""
    kinds = Counter(alarm.kind for alarm in found)
    state = ", ".join(kinds) if kinds else "ok" if health.layers else "no experts"
    return {"health": state, "health.alarms": "\n".join(alarm.text for alarm in found) or "none"}


def positive_rates(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the share of positives of every event that has known labels."""
    events = {task: values for task, values in metrics.items() if "positives" in values and values["rows"]}
    return {task: values["positives"] / values["rows"] for task, values in events.items()}
