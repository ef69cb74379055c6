"""Pareto: which of several have nothing beside them that is as good in everything and better in something."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def pareto(values: Mapping[K, Mapping[str, float]]) -> set[K]:
    """Return the ones that no other dominates; more is better, and only those with the same keys are compared."""
    return {
        key
        for key, mine in values.items()
        if not any(dominates(other, mine) for other in values.values() if other.keys() == mine.keys())
    }


def dominates(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Tell whether one is at least as good in everything, and better in something."""
    return all(one[key] >= other[key] for key in other) and any(one[key] > other[key] for key in other)
