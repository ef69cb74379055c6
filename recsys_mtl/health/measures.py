"""Measures: what records say about collapse, degradation and underfitting of experts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_mtl.health.recorder import HealthRecord
from recsys_mtl.health.records import GateRecord
from recsys_mtl.health.structure import Layer, layers

Weights = Mapping[str, dict[str, float]]
"""Mean weights by reader and expert."""
SHARED_READER = "shared"
"""Reader that mixes experts for the next layer's shared ones: it may choose all of them, and takes none from a task."""


@dataclass(frozen=True)
class ExpertHealth:
    """One expert. What does not apply to it is NaN."""

    name: str
    mean: float
    """Of the output, over rows and units."""
    sd: float
    zero_ratio: float
    """Share of outputs that are zero, up to 1e-6."""
    weight: float
    """Highest mean weight that a reader's gate, or self gate, gives it; NaN if none can choose it."""
    readers: tuple[str, ...]
    """Tasks, or groups of tasks, whose gates can choose it: it is shared if there are several, and owned if one."""
    occupancy: float
    """Of a shared expert: the part that its heaviest reader has in the mean weights of all; 1 if it has no other."""
    effective_readers: float
    """Of a shared expert: exp of the entropy of its readers' parts in it."""
    heaviest: str | None
    """The reader that gives it the highest mean weight."""


@dataclass(frozen=True)
class ReaderHealth:
    """The gate of one task, or group of tasks, in a layer. What does not apply to it is NaN."""

    name: str
    weights: dict[str, float]
    """Mean weight of each expert that it can choose."""
    entropy: float
    """Of the mean weights, as a share of what equal weights have."""
    top1_share: float
    """Share of rows at which the expert that most often has the highest weight has it."""
    own_mass: float
    """Mean weight of the experts that no other task can choose, that of its self gate included."""
    uniform_mass: float
    """What equal weights would give them."""
    positive_rate: float
    """Of the task, over known labels."""


@dataclass(frozen=True)
class LayerHealth:
    """A bank or several of experts, with the gates that choose from them."""

    name: str
    experts: tuple[ExpertHealth, ...]
    readers: tuple[ReaderHealth, ...]

    @property
    def scale_ratio(self) -> float:
        """Largest standard deviation of an expert's output over the smallest; infinite if an expert is constant."""
        sds = [expert.sd for expert in self.experts]
        if not sds or not max(sds) > 0:  # no rows, or nothing but zeros
            return math.nan
        return max(sds) / min(sds) if min(sds) > 0 else math.inf

    @property
    def own_mass_by_rate(self) -> float:
        """Rank correlation of the tasks' own mass and positive rate; NaN below three such tasks.

        Near 1, sparse tasks leave their own experts for shared ones: HoME's underfitting.
        """
        pairs = [(r.own_mass, r.positive_rate) for r in self.readers if not math.isnan(r.own_mass + r.positive_rate)]
        return spearman(*torch.tensor(pairs, dtype=torch.float64).T) if len(pairs) >= 3 else math.nan


@dataclass(frozen=True)
class Gradients:
    """Cosines between the tasks' loss gradients with respect to the representation."""

    tasks: tuple[str, ...]
    rows: int
    cosines: tuple[tuple[float, ...], ...]

    @property
    def pairs(self) -> dict[tuple[str, str], float]:
        """Cosine of every two tasks; without those that have no gradient."""
        names = enumerate(self.tasks)
        every = {(a, b): self.cosines[i][j] for i, a in names for j, b in enumerate(self.tasks) if i < j}
        return {pair: cosine for pair, cosine in every.items() if not math.isnan(cosine)}


@dataclass(frozen=True)
class Health:
    """All layers of a model that have experts, and its tasks' gradients."""

    layers: tuple[LayerHealth, ...]
    gradients: Gradients


def measure(record: HealthRecord, positive_rates: Mapping[str, float]) -> Health:
    """Turn sums over rows into health; ``positive_rates`` holds those of the events among the tasks."""
    seen = layers(record.banks, record.gates)
    cosines = tuple(tuple(row) for row in record.gradients.cosine_TT.tolist())
    gradients = Gradients(record.gradients.tasks, record.gradients.rows, cosines)
    return Health(tuple(_layer(layer, positive_rates) for layer in seen), gradients)


def spearman(x: Tensor, y: Tensor) -> float:
    """Return Spearman's rank correlation, with mean ranks for ties; NaN if one of them is constant."""
    ranks = torch.stack([(v.unsqueeze(1) > v).sum(1) + (v.unsqueeze(1) == v).sum(1) / 2 for v in (x, y)])
    return float(torch.corrcoef(ranks)[0, 1])


def _layer(layer: Layer, positive_rates: Mapping[str, float]) -> LayerHealth:
    weights, past = _weights(layer.gates), _weights(layer.self_gates)
    choices = {reader: set(row) for reader, row in weights.items() if reader != SHARED_READER}
    experts = tuple(
        ExpertHealth(
            name, mean, sd, zeros, _highest([weights, past], name), *_readers({r: weights[r] for r in choices}, name)
        )
        for bank in layer.banks
        for name, mean, sd, zeros in zip(
            bank.experts, bank.mean_K.tolist(), bank.std_K.tolist(), bank.zero_ratio_K.tolist(), strict=True
        )
    )
    tops = {
        reader: float(first_E.max())
        for gate in layer.gates
        for reader, first_E in zip(gate.readers, gate.first_TE, strict=True)
    }
    readers = tuple(
        _reader(reader, row, tops[reader], _own_weights(reader, choices, [weights, past]), rate)
        for reader, row in weights.items()
        for rate in [positive_rates.get(reader, math.nan)]
    )
    return LayerHealth(layer.name, experts, readers)


def _weights(gates: tuple[GateRecord, ...]) -> Weights:
    """Mean weight by reader and expert."""
    return {
        reader: dict(zip(names, row, strict=True))
        for gate in gates
        for reader, names, row in zip(gate.readers, gate.experts, gate.mean_TE.tolist(), strict=True)
    }


def _highest(gates: list[Weights], expert: str) -> float:
    return max((row[expert] for gate in gates for row in gate.values() if expert in row), default=math.nan)


def _readers(weights: Weights, expert: str) -> tuple[tuple[str, ...], float, float, str | None]:
    """Return who can choose an expert; if it is shared, its occupancy and effective readers; and the heaviest."""
    parts = {reader: row[expert] for reader, row in weights.items() if expert in row}
    heaviest = max(parts, key=parts.__getitem__, default=None)
    total = sum(parts.values())
    if heaviest is None or len(parts) < 2 or not total > 0:
        return tuple(parts), math.nan, math.nan, heaviest
    entropy = _entropy([part / total for part in parts.values()])
    return tuple(parts), parts[heaviest] / total, math.exp(entropy), heaviest


def _own_weights(reader: str, choices: Mapping[str, set[str]], gates: list[Weights]) -> dict[str, float]:
    """Return the weight, summed over gates, of every expert that ``reader`` alone can choose."""
    own = choices.get(reader, set()).difference(*(others for name, others in choices.items() if name != reader))
    return {expert: sum(gate.get(reader, {}).get(expert, 0.0) for gate in gates) for expert in own}


def _reader(
    name: str, weights: dict[str, float], top1: float, own: dict[str, float], positive_rate: float
) -> ReaderHealth:
    mass, uniform = sum(own.values()), len(own) / len(weights)
    if not own:
        mass = uniform = math.nan
    spread = _entropy(list(weights.values())) / math.log(len(weights)) if len(weights) > 1 else math.nan
    return ReaderHealth(name, weights, spread, top1, mass, uniform, positive_rate)


def _entropy(shares: list[float]) -> float:
    return -sum(share * math.log(share) for share in shares if share > 0)
