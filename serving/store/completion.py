"""Completing requests to one model: which keys to ask a store for, and where its answer goes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from recsys_mtl.data.schema import Schema
from recsys_mtl.data.values import FeatureError, text_of
from serving.errors import RequestError
from serving.inputs import Inputs, Part, Place
from serving.schemas import ScoreRequest
from serving.store.base import LookUp
from serving.store.filling import fill, gaps, units_of
from serving.store.histories import extended, histories_of
from serving.store.rows import Asked, Key

PlaceOf = Callable[[str, int | None], Place]


class Completion:
    """Fills the raw tables of requests."""

    def __init__(self, schema: Schema, inputs: Inputs) -> None:
        self.inputs = inputs
        self.user, self.item = units_of(schema, "user"), units_of(schema, "item")
        self.histories = histories_of(schema)

    def asked(self, request: ScoreRequest, head: pa.Table, items: pa.Table) -> Asked:
        """Say whose rows a request needs: of nobody who brings all features."""
        user = key_of(self.inputs.user, request.user) if gaps(head, self.user).any() else None
        missing = gaps(items, self.item)
        if not missing.any():
            return Asked(user, [])
        keys = [key_of(self.inputs.candidate, c.model_extra or {}, c.item_id) for c in request.candidates]
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
            with placed(lambda column, row: ("candidates", column) if row is None else ("candidates", row, column)):
                items = fill(items, self.item, answer.items)
        return head, items


def key_of(part: Part, cells: Mapping[str, Any], identity: Any = None) -> Key:
    """Return what identifies the user or the item of a part of a request: the data set's column, or else its alias."""
    value = cells.get(part.key or "", cells.get(part.alias or "", identity))
    return text_of(value) if isinstance(value, str | int | float) else None


@contextmanager
def placed(place: PlaceOf) -> Iterator[None]:
    """Say of a value that its feature cannot take where in the request it is."""
    try:
        yield
    except FeatureError as error:
        raise RequestError([(place(error.column, error.row), error.message)]) from None
