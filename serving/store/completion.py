"""Completing requests to one model: which keys to ask a store for, and where its answer goes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import text_of
from serving.inputs import Inputs, Part, place_in_candidates, placed
from serving.schemas import ScoreRequest
from serving.store.base import LookUp
from serving.store.cells import Cells, fill_cells, has_none, lacking
from serving.store.filling import fill, gaps, units_of
from serving.store.histories import extended, histories_of
from serving.store.rows import Answer, Asked, Key


class Completion:
    """Fills the raw tables of requests."""

    def __init__(self, schema: Schema, inputs: Inputs) -> None:
        self.inputs = inputs
        self.user, self.item = units_of(schema, "user"), units_of(schema, "item")
        self.histories = histories_of(schema)

    def is_needed(self, head: Cells, candidates: Cells) -> bool:
        """Tell whether any cell is missing. A whole sequence may be needed where this says yes, or nothing at all."""
        return has_none(head, self.user) or has_none(candidates, self.item)

    def fill_head(self, head: Cells, asked: Asked, answer: Answer) -> Cells | None:
        """Fill the user's cells with what a store knows; None where that takes more care."""
        if asked.user is None:
            return head
        return fill_cells(head, self.user, extended(answer.user, answer.events, self.histories))

    def fill_candidates(self, candidates: Cells, asked: Asked, answer: Answer) -> Cells | None:
        """Fill the candidates' cells with what a store knows; None where that takes more care."""
        return fill_cells(candidates, self.item, answer.items) if asked.items else candidates

    def asked_of_cells(self, head: Cells, candidates: Cells) -> Asked:
        """Say whose rows a small request needs: of nobody who brings all features."""
        user = text_of(keys_of(self.inputs.user, head)[0]) if lacking(head, self.user, 1).any() else None
        keys = keys_of(self.inputs.candidate, candidates)
        mask = lacking(candidates, self.item, len(keys))
        if not mask.any():
            return Asked(user, [])
        return Asked(user, [text_of(key) if lacks else None for key, lacks in zip(keys, mask.tolist(), strict=True)])

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


def key_of(part: Part, cells: Mapping[str, Any], identity: Any = None) -> Key:
    """Return what identifies the user or the item of a part of a request: the data set's column, or else its alias."""
    value = cells.get(part.key or "", cells.get(part.alias or "", identity))
    return text_of(value) if isinstance(value, str | int | float) else None


def keys_of(part: Part, cells: Cells) -> Sequence[Any]:
    """Return what identifies the user or the items of a request's cells, which have the alias's in the key's place."""
    aliases = cells.get(part.alias or "", (None,))
    if part.key is None or part.alias in part.columns:
        return aliases
    keys = cells.get(part.key, (None,) * len(aliases))
    if part.key in part.columns:
        return keys
    return [alias if key is None else key for key, alias in zip(keys, aliases, strict=True)]
