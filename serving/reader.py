"""The reader: bodies of requests to one model's inputs, whichever way they come."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.newest import key_texts
from recsys_mtl.data.schema import NumberFeature, column_of
from recsys_mtl.data.values import FeatureError, first_where
from recsys_mtl.inference import CellEncoder, Encoded, Side
from serving.arrow import head_of_stream, item_ids, read_stream
from serving.careful import read_carefully, validated
from serving.errors import RequestError
from serving.fast import FastReader
from serving.formulas import AskedFormula
from serving.inputs import ITEM_ID, Inputs, Place, PlaceOf, place_in_candidates, placed
from serving.schemas import ScoreRequest
from serving.store.bare import Bare
from serving.store.base import LookUp
from serving.store.cells import Cells
from serving.store.completion import Completion, key_of
from serving.store.rows import Key

Tables = tuple[pa.Table, pa.Table]
"""Raw values of the head (one row), and of the candidates."""


@dataclass(frozen=True)
class Body:
    """A request's body as it came."""

    content: bytes
    kind: type[ScoreRequest]
    is_arrow: bool = False

    @property
    def head(self) -> bytes:
        """JSON that has all but the candidates, and may have those."""
        return head_of_stream(self.content) if self.is_arrow else self.content


@dataclass(frozen=True)
class Question:
    """A request as the model sees it."""

    item_ids: list[int | str]
    head: Encoded
    """User and context: one row."""
    candidates: Encoded
    fusion: AskedFormula | None
    top_k: int | None
    explain: bool = False
    model: str | None = None
    """Which model is to answer, if the client has a wish."""


class Reader:
    """Reads requests to one model. Calls from several threads do not disturb each other."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.spec = encoder, encoder.spec
        self.head, self.candidates = (Side.of(self.spec, candidates=of_items) for of_items in (False, True))
        self.of_head, self.of_candidates = CellEncoder(encoder, self.head), CellEncoder(encoder, self.candidates)
        self.inputs = Inputs(self.spec)
        self.fast = FastReader(self.inputs, self.spec)
        self.completion = Completion(self.spec, self.inputs)
        self.bare = Bare(self.inputs.candidate, self.of_candidates)
        self.numbers = {
            feature.name: column_of(feature)
            for feature in self.spec.features
            if isinstance(feature, NumberFeature) and feature.boundaries is None
        }

    def read(self, body: Body, most: int, look_up: LookUp | None = None) -> Question:
        """Read a body of up to ``most`` candidates; what it leaves out is looked up, if there is a store.

        Raises:
            RequestValidationError: it does not have the shape of a request.
            RequestError: a name that the model does not know, a value that it cannot take, or too many candidates.
        """
        if body.is_arrow:
            return self._stream(body, most, look_up)
        if (request := self.fast.parse(body.content, body.kind)) is not None:
            check_number(len(request.candidates), most)
            if (question := self._fast(request, look_up)) is not None:
                return question
        careful = read_carefully(body.content, body.kind)
        check_number(len(careful.candidates), most)
        return self.carefully(careful, look_up)

    def carefully(self, request: ScoreRequest, look_up: LookUp | None = None) -> Question:
        """Encode a request of any types of cells as logged columns are encoded.

        Raises:
            RequestError: a name that the model does not know, or a value that it cannot take.
        """
        self.inputs.check_names(request)
        ids = [candidate.item_id for candidate in request.candidates]
        tables = self.inputs.head(request), self.inputs.items(request)
        if look_up is not None:
            cells = ((candidate.model_extra or {}, candidate.item_id) for candidate in request.candidates)
            keys = (key_of(self.inputs.candidate, extra, item_id) for extra, item_id in cells)
            return self._completed(request, ids, tables, keys, look_up)
        return self._question(request, ids, tables)

    def _fast(self, request: Any, look_up: LookUp | None) -> Question | None:
        of_head, columns = self.fast.head(request), self.fast.candidates(request)
        if look_up is None or not self.completion.is_needed(of_head, columns):
            return self._small(request, of_head, columns)
        try:
            return self._looked_up(request, of_head, columns, look_up)
        except (RequestError, FeatureError):  # by the request or by what is stored: the careful way finds out
            return None

    def _looked_up(self, request: Any, of_head: Cells, columns: Cells, look_up: LookUp) -> Question | None:
        if not (asked := self.completion.asked_of_cells(of_head, columns)):
            return self._small(request, of_head, columns)
        answer = look_up.ask(asked, self.completion.histories)
        if (head := self.completion.fill_head(of_head, asked, answer)) is None:
            return None
        if look_up.is_at_hand and asked.items and self.bare.are(columns):
            items = self.bare.encoded(answer.items, columns, self._items)
            return self._small(request, head, columns, items)
        candidates = self.completion.fill_candidates(columns, asked, answer)
        return None if candidates is None else self._small(request, head, candidates)

    def _small(self, request: Any, of_head: Cells, columns: Cells, candidates: Encoded | None = None) -> Question:
        ids = list(columns[ITEM_ID])
        with placed(self._place_in_head):
            head = self.of_head.encode(of_head, 1)
        if candidates is None:
            with placed(place_in_candidates):
                candidates = self.of_candidates.encode(columns, len(ids))
        return Question(ids, head, candidates, *wishes(request))

    def _items(self, raw: pa.Table) -> Encoded:
        return Encoded.of(self._encoded(raw, place_in_candidates), self.candidates, raw)

    def _stream(self, body: Body, most: int, look_up: LookUp | None) -> Question:
        head, table = read_stream(body.content, most_rows=most)
        ids = item_ids(table)
        request = validated(head, body.kind, {"candidates": [{"item_id": 0}]})  # one stands for all
        self.inputs.check_names(request)
        tables = self.inputs.head(request), self.inputs.table_of(table)
        if look_up is not None:
            key = self.inputs.candidate.key
            keys = key_texts(table, key if key in table.column_names else ITEM_ID).to_pylist()
            return self._completed(request, ids, tables, keys, look_up)
        return self._question(request, ids, tables)

    def _completed(
        self, request: ScoreRequest, ids: list[int | str], tables: Tables, keys: Iterable[Key], look_up: LookUp
    ) -> Question:
        """Fill what the request leaves out; stored values that the model cannot read are left out, too."""
        if not (asked := self.completion.asked(request, *tables, keys)):
            return self._question(request, ids, tables)
        completed = self.completion.complete(asked, *tables, look_up)
        try:
            return self._question(request, ids, completed)
        except RequestError as error:
            question = self._question(request, ids, tables)  # raises again where it is not the store that is to blame
            look_up.unusable(asked, str(error))
            return question

    def _question(self, request: ScoreRequest, ids: list[int | str], tables: Tables) -> Question:
        head = self._encoded(tables[0], self._place_in_head)
        return Question(ids, Encoded.of(head, self.head, tables[0]), self._items(tables[1]), *wishes(request))

    def _encoded(self, raw: pa.Table, place: PlaceOf) -> pa.Table:
        with placed(place), np.errstate(over="ignore"):  # a number beyond float32 is infinite then, and refused below
            encoded = self.encoder.encode(raw)
        for feature, column in self.numbers.items():
            if (row := first_where(~np.isfinite(encoded[feature].to_numpy()))) is not None:
                raise RequestError([(place(column, row), "the number is too large for the model")])
        return encoded

    def _place_in_head(self, column: str, _: int | None) -> Place:
        return ("user" if column in self.inputs.user.columns else "context", column)


def wishes(request: Any) -> tuple[AskedFormula | None, int | None, bool, str | None]:
    """Return what a request says of its answer: formula, number of candidates, whether to explain, and the model."""
    return AskedFormula.of(request.fusion), getattr(request, "top_k", None), request.explain, request.model


def check_number(count: int, most: int) -> None:
    """Refuse requests that would keep all others waiting.

    Raises:
        RequestError: there are too many candidates.
    """
    if count > most:
        raise RequestError([(("candidates",), f"{count} are too many; this service takes up to {most}")])
