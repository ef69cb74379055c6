"""The quick way to complete requests: candidates that are nothing but ids, and a store that is at hand.

Items are encoded once and kept; the user's row is encoded cell by cell, as requests in order are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_mtl.data.feature_kinds import IdFeature, column_of
from recsys_mtl.data.values import FeatureError, array, text_of
from recsys_mtl.inference import CellEncoder, Encoded
from serving.errors import RequestError
from serving.inputs import ITEM_ID, Inputs, table
from serving.store.base import LookUp
from serving.store.completion import Completion, key_of
from serving.store.encoded_items import EncodedItems
from serving.store.filling import fill, gaps
from serving.store.histories import extended
from serving.store.rows import Asked, Found

Cells = dict[str, Sequence[Any]]


class Quick:
    """Completes and encodes requests to one model."""

    def __init__(
        self,
        completion: Completion,
        inputs: Inputs,
        encoders: tuple[CellEncoder, CellEncoder],
        encode_items: Callable[[pa.Table], Encoded],
    ) -> None:
        self.completion, self.inputs, self.encode_items = completion, inputs, encode_items
        self.of_head, self.of_candidates = encoders
        self.numbers = {column.name for unit in completion.user for column in unit if column.is_number}
        key = ITEM_ID if ITEM_ID in inputs.candidate.columns else inputs.candidate.key
        self.key = ITEM_ID if key is None or key not in inputs.candidate.columns else key
        self.identities = {ITEM_ID, inputs.candidate.alias, inputs.candidate.key}
        self.items: EncodedItems | None = None

    def complete(self, head: Cells, candidates: Cells, look_up: LookUp) -> tuple[Encoded, Encoded] | None:
        """Return head and candidates encoded, or nothing where the way for all requests is needed."""
        if not look_up.is_at_hand or any(
            _has_any(cells) for name, cells in candidates.items() if name not in self.identities
        ):
            return None
        given = table({name: array(list(cells)) for name, cells in head.items() if cells[0] is not None}, rows=1)
        user = {name: cells[0] for name, cells in head.items() if cells[0] is not None}
        needed = gaps(given, self.completion.user).any()
        keys = [text_of(cell) for cell in candidates[self.key]]
        asked = Asked(key_of(self.inputs.user, user) if needed else None, keys)
        answer = look_up.ask(asked, self.completion.histories)
        try:
            if asked.user is not None:
                stored = extended(answer.user, answer.events, self.completion.histories)
                head = self._cells(fill(given, self.completion.user, stored))
            return self.of_head.encode(head, 1), self._candidates(answer.items, candidates[self.key])
        except (FeatureError, RequestError, ValueError, TypeError):
            return None  # something that is stored is not what the model reads: the other way tells what

    def _candidates(self, found: Found, keys: Sequence[Any]) -> Encoded:
        items = self.items
        if items is None or items.table is not found.table:
            items = self.items = EncodedItems(found.table, self.of_candidates.side, self.encode_items)
        encoded = items.take(found)
        own = self.of_candidates.encode({self.key: keys}, len(keys))
        for place, feature in enumerate(self.of_candidates.side.singles):
            if isinstance(feature, IdFeature) and column_of(feature) == self.key:
                encoded.singles_FB[place] = own.singles_FB[place]
        return encoded

    def _cells(self, completed: pa.Table) -> Cells:
        return {
            name: [_cell(completed[name][0].as_py(), is_number=name in self.numbers)] for name in completed.column_names
        }


def _has_any(cells: Sequence[Any]) -> bool:
    return any(cell is not None for cell in cells)


def _cell(value: Any, *, is_number: bool) -> Any:
    """Write a stored value as one that requests carry: text or a whole number for ids, numbers as they are."""
    if isinstance(value, list):
        return [_cell(entry, is_number=is_number) for entry in value]
    if value is None or isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return np.nan if is_number and value == "" else value
    return float(value) if is_number else text_of(value)
