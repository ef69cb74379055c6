"""Completing requests to one model: which keys to ask a store for, and where its answer goes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import is_
from typing import Any, TypeAlias

import pyarrow as pa

from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import text_of
from serving.inputs import Inputs, Part, place_in_candidates, placed
from serving.schemas import ScoreRequest
from serving.store.base import LookUp
from serving.store.filling import Unit, fill, gaps, units_of
from serving.store.histories import extended, histories_of
from serving.store.rows import Asked, Key

Cells: TypeAlias = Mapping[str, Sequence[Any]]
"""Cells of a request by raw column, None where it has none."""


class Completion:
    """Fills the raw tables of requests."""

    def __init__(self, schema: Schema, inputs: Inputs) -> None:
        self.inputs = inputs
        self.user, self.item = units_of(schema, "user"), units_of(schema, "item")
        self.histories = histories_of(schema)

    def is_needed(self, head: Cells, candidates: Cells) -> bool:
        """Tell whether any cell is missing. A whole sequence may be needed where this says yes, or nothing at all."""
        return _has_none(head, self.user) or _has_none(candidates, self.item)

    def asked(self, request: ScoreRequest, head: pa.Table, items: pa.Table, keys: Iterable[Key]) -> Asked:
        """Say whose rows a request needs: of nobody who brings all features. ``keys`` are those of the candidates."""
        user = key_of(self.inputs.user, request.user) if gaps(head, self.user).any() else None
        missing = gaps(items, self.item)
        if not missing.any():
            return Asked(user, [])
        return Asked(user, [key if lacks else None for key, lacks in zip(keys, missing.tolist(), strict=True)])

    def complete(self, asked: Asked, head: pa.Table, items: pa.Table, look_up: LookUp) -> tuple[pa.Table, pa.Table]:
        """Fill the tables with what a store knows.

        Raises:
            RequestError: a value of the request that its feature cannot take.
        """
        answer = look_up.ask(asked, self.histories)
        if asked.user is not None:
            user = extended(answer.user, answer.events, self.histories)
            with placed(lambda column, _: ("user", column)):
                head = fill(head, self.user, user)
        if asked.items:
            with placed(place_in_candidates):
                items = fill(items, self.item, answer.items)
        return head, items


def _has_none(cells: Cells, units: Sequence[Unit]) -> bool:
    # Identity alone is compared, which takes two thirds of the time of ``None in column``.
    columns = (cells.get(column.name, (None,)) for unit in units for column in unit)
    return any(any(map(is_, column, repeat(None))) for column in columns)


def key_of(part: Part, cells: Mapping[str, Any], identity: Any = None) -> Key:
    """Return what identifies the user or the item of a part of a request: the data set's column, or else its alias."""
    value = cells.get(part.key or "", cells.get(part.alias or "", identity))
    return text_of(value) if isinstance(value, str | int | float) else None
