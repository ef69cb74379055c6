"""Aliases of a registered model and how they moved."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

from recsys_mtl.registry.places import describe, refusals
from recsys_mtl.tracking.client import connect
from recsys_mtl.tracking.provenance import user

MOVES = "alias_moves."
"""Prefix of the model's tags that hold each alias's moves, because MLflow itself keeps only the present."""
MOVES_KEPT = 50


@dataclass(frozen=True)
class AliasMove:
    """One move of an alias."""

    version: int
    before: int | None
    """Version that had the alias until then: where a rollback goes."""
    at: str
    """Time in UTC."""
    by: str
    is_rollback: bool = False
    """Whether it went back to a version that had the alias before."""


def aliases(tracking_uri: str, name: str) -> dict[str, int]:
    """Return the version that each alias of a registered model points at.

    Raises:
        ConfigError: no such model, or the registry cannot be reached.
    """
    client = connect(tracking_uri)
    with refusals(f"model {name!r}"):
        return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def set_alias(tracking_uri: str, name: str, *, alias: str, version: int, is_rollback: bool = False) -> int | None:
    """Move an alias, note the move, and return the version that had the alias before.

    The move itself is one step: whoever asks for the alias gets the one version or the other.

    Raises:
        ConfigError: no such model or version, or the registry cannot be reached.
    """
    describe(f"models:/{name}/{version}", tracking_uri)
    before = aliases(tracking_uri, name).get(alias)
    if before == version:
        return before
    at = datetime.now(UTC).isoformat(timespec="seconds")
    move = AliasMove(version, before, at, user(), is_rollback)
    moves = [*alias_moves(tracking_uri, name, alias=alias), move][-MOVES_KEPT:]
    client = connect(tracking_uri)
    with refusals(f"models:/{name}@{alias}"):
        client.set_registered_model_alias(name, alias, str(version))
        client.set_registered_model_tag(name, MOVES + alias, json.dumps([astuple(move) for move in moves]))
    return before


def alias_moves(tracking_uri: str, name: str, *, alias: str) -> list[AliasMove]:
    """Return the latest moves of an alias, oldest first.

    Raises:
        ConfigError: no such model, or the registry cannot be reached.
    """
    client = connect(tracking_uri)
    with refusals(f"model {name!r}"):
        moves = client.get_registered_model(name).tags.get(MOVES + alias, "[]")
    return [AliasMove(*move) for move in json.loads(moves)]


def way_back(moves: Sequence[AliasMove], now: int) -> list[int]:
    """Return the versions that an alias can go back to, the next first.

    A rollback takes away what it went back from, so that one after the other leads ever further back. A move that
    nobody noted, such as one by hand in MLflow, is known from what the next one found, or from ``now``.
    """
    stack: list[int] = []
    for move in moves:
        if move.before is not None:
            _arrive(stack, move.before)
        if move.is_rollback:
            while stack and stack[-1] != move.version:
                stack.pop()
        _arrive(stack, move.version)
    _arrive(stack, now)
    return [version for version in reversed(stack[:-1]) if version != now]


def _arrive(stack: list[int], version: int) -> None:
    if not stack or stack[-1] != version:
        stack.append(version)
