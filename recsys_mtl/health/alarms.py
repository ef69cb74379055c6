"""Alarms: where a measure is past its threshold, said in a sentence."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from recsys_mtl.config import Config
from recsys_mtl.health.measures import ExpertHealth, Health, LayerHealth

Share = Annotated[float, Field(ge=0, le=1)]
LAST_GRADIENT_ROWS = 2048
Kind = Literal["collapse", "degradation", "underfitting"]


class HealthConfig(Config):
    """What is measured of the experts at each evaluation, and from where on it is an alarm."""

    enabled: bool = True
    """Measure at all; gate pictures come with it."""
    zero_ratio: Share = 0.9
    """Collapse: more of an expert's outputs than this are zero (HoME's own figure)."""
    dead_weight: Share = 0.01
    """Collapse: no gate's mean weight on an expert reaches this."""
    scale_ratio: Annotated[float, Field(ge=1)] = 10.0
    """Collapse: the largest standard deviation of an expert's output in a layer is more than this times the smallest;
    a gate that mixes them can hardly hear the quiet one."""
    occupancy: Share = 0.9
    """Degradation: one task has more than this part of what a shared expert gives to all."""
    own_mass: Share = 0.25
    """Underfitting: a task gives its own experts less than this part of what equal weights would give them."""
    gradient_rows: NonNegativeInt = 256
    """Rows, spread evenly over the split, whose gradients are compared between tasks at each evaluation; none with 0.
    Each costs about one pass through experts and heads for each task. The end of a run looks at 2,048 or more."""

    @property
    def last_gradient_rows(self) -> int:
        """Rows at the end of a run, where the gradients are looked at once."""
        return max(LAST_GRADIENT_ROWS, self.gradient_rows) if self.gradient_rows else 0


@dataclass(frozen=True)
class Alarm:
    """One thing that is wrong."""

    kind: Kind
    text: str


def alarms(health: Health, config: HealthConfig) -> tuple[Alarm, ...]:
    """Return what is past its threshold, layer by layer."""
    return tuple(alarm for layer in health.layers for alarm in _layer_alarms(layer, config))


def dead(expert: ExpertHealth, config: HealthConfig) -> bool:
    """Tell whether no gate makes use of an expert."""
    return expert.weight < config.dead_weight


def collapsed(expert: ExpertHealth, config: HealthConfig) -> bool:
    """Tell whether an expert's output is nearly all zeros."""
    return expert.zero_ratio > config.zero_ratio


def _layer_alarms(layer: LayerHealth, config: HealthConfig) -> Iterator[Alarm]:
    where = f"{layer.name}: "
    for expert in layer.experts:
        if collapsed(expert, config):
            share = f"{expert.zero_ratio:.1%} of its outputs are zero, more than {config.zero_ratio:.0%}"
            yield Alarm("collapse", f"{where}expert {expert.name!r}: {share}")
        if dead(expert, config):
            weight = f"no gate's mean weight on it reaches {config.dead_weight:g}, the highest is {expert.weight:.4f}"
            yield Alarm("collapse", f"{where}expert {expert.name!r}: {weight}")
        elif expert.occupancy > config.occupancy:
            part = f"{expert.heaviest!r}, one of {len(expert.readers)} readers, has {expert.occupancy:.1%} of it"
            yield Alarm(
                "degradation", f"{where}shared expert {expert.name!r}: {part}, more than {config.occupancy:.0%}"
            )
    if layer.scale_ratio > config.scale_ratio:
        yield Alarm("collapse", where + _scale(layer, config))
    for reader in layer.readers:
        if reader.own_mass < (low := config.own_mass * reader.uniform_mass):
            mass = f"weight {reader.own_mass:.4f} on its own experts, below {low:.4f}"
            of_uniform = f"({config.own_mass:g} of what equal weights would give them)"
            yield Alarm("underfitting", f"{where}{reader.name!r}: {mass} {of_uniform}")


def _scale(layer: LayerHealth, config: HealthConfig) -> str:
    loud, quiet = (choose(layer.experts, key=lambda expert: expert.sd) for choose in (max, min))
    times = "infinitely many" if math.isinf(layer.scale_ratio) else f"{layer.scale_ratio:.1f}"
    return (
        f"the output of expert {loud.name!r} varies {times} times as much as that of {quiet.name!r} "
        f"(sd {loud.sd:.3g} and {quiet.sd:.3g}), more than {config.scale_ratio:g} times"
    )
