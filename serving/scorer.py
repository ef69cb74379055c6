"""The scorer: a bundle's answer to one request, the same for HTTP requests and for golden ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.schema import NumberFeature, column_of
from recsys_mtl.data.values import first_where
from recsys_mtl.fusion import Formula, fuse
from recsys_mtl.inference import CellEncoder, Encoded, Engine
from serving.careful import read_carefully
from serving.errors import RequestError
from serving.fast import FastReader
from serving.inputs import ITEM_ID, Inputs, Place, PlaceOf, place_in_candidates, placed
from serving.schemas import FormulaName, ScoreRequest


@dataclass(frozen=True)
class Question:
    """A request as the model sees it."""

    item_ids: list[int | str]
    head: Encoded
    """User and context: one row."""
    candidates: Encoded
    fusion: str | None
    top_k: int | None


@dataclass(frozen=True)
class Scores:
    """What a model says of a request's candidates, in the request's order."""

    question: Question
    scores_BT: Tensor
    fused_B: Tensor
    fusion: FormulaName

    def candidates(self, tasks: tuple[str, ...], *, ranked: bool) -> list[dict[str, Any]]:
        """Return the candidates, best first or in the request's order, each with its scores by task."""
        item_ids, scores, fused = self.question.item_ids, self.scores_BT.tolist(), self.fused_B.tolist()
        return [
            {"item_id": item_ids[row], "objectives": dict(zip(tasks, scores[row], strict=True)), "score": fused[row]}
            for row in (self.ranking() if ranked else range(len(item_ids)))
        ]

    def ranking(self) -> list[int]:
        """Order the candidates by fused score, best first; ties stay in the request's order."""
        return self.fused_B.argsort(descending=True, stable=True).tolist()[: self.question.top_k]


class Scorer:
    """Reads, encodes, scores and fuses with one bundle. Calls from several threads do not disturb each other."""

    def __init__(self, bundle: Bundle) -> None:
        """Make a scorer.

        Raises:
            ConfigError: a formula of the bundle reads an objective that its model does not have.
        """
        bundle.fusions.check(bundle.manifest.tasks, where="fusion.yaml: ")
        self.bundle, self.spec = bundle, bundle.encoder.spec
        self.engine = Engine.of(bundle)
        self.inputs = Inputs(self.spec)
        self.fast = FastReader(self.inputs, self.spec)
        sides = self.engine.inputs
        self.of_head, self.of_candidates = (
            CellEncoder(bundle.encoder, sides.head),
            CellEncoder(bundle.encoder, sides.items),
        )
        self.numbers = {
            feature.name: column_of(feature)
            for feature in self.spec.features
            if isinstance(feature, NumberFeature) and feature.boundaries is None
        }

    def read(self, body: bytes, kind: type[ScoreRequest]) -> Question:
        """Read a body as a request of a kind.

        Raises:
            RequestValidationError: it does not have the shape of a request.
            RequestError: a name that the model does not know, or a value that it cannot take.
        """
        if (request := self.fast.parse(body, kind)) is None:
            return self.careful(read_carefully(body, kind))
        columns = self.fast.candidates(request)
        item_ids = list(columns[ITEM_ID])
        with placed(self._place_in_head):
            head = self.of_head.encode(self.fast.head(request), 1)
        with placed(place_in_candidates):
            candidates = self.of_candidates.encode(columns, len(item_ids))
        return Question(item_ids, head, candidates, request.fusion, getattr(request, "top_k", None))

    def careful(self, request: ScoreRequest) -> Question:
        """Encode a request of any types of cells as logged columns are encoded.

        Raises:
            RequestError: a name that the model does not know, or a value that it cannot take.
        """
        self.inputs.check_names(request)
        head = self._encoded(self.inputs.head(request), self._place_in_head)
        items = self._encoded(self.inputs.items(request), place_in_candidates)
        sides = self.engine.inputs
        return Question(
            item_ids=[candidate.item_id for candidate in request.candidates],
            head=Encoded.of(head, sides.head),
            candidates=Encoded.of(items, sides.items),
            fusion=request.fusion,
            top_k=getattr(request, "top_k", None),
        )

    def score(self, question: Question) -> Scores:
        """Score a request's candidates.

        Raises:
            RequestError: there is no such formula, or a score is not finite.
        """
        fusion, formula = self.formula(question.fusion)
        scores_BT = self.engine.score(question.head, question.candidates)
        if (row := first_where(~scores_BT.isfinite().all(1).numpy())) is not None:
            raise RequestError([(("candidates", row), "has no finite score: numbers are too large for the model")])
        return Scores(question, scores_BT, fuse(formula, scores_BT, self.bundle.tasks), fusion)

    def formula(self, name: str | None) -> tuple[FormulaName, Formula]:
        """Find the formula that a request asks for.

        Raises:
            RequestError: there is none of this name.
        """
        fusions = self.bundle.fusions
        chosen = fusions.default if name is None else name
        if chosen not in fusions.formulas:
            names = ", ".join(sorted(fusions.formulas))
            raise RequestError([(("fusion",), f"no formula of this name; the model has {names}")])
        formula = fusions.formulas[chosen]
        return FormulaName(name=chosen, version=formula.version), formula

    def _encoded(self, raw: pa.Table, place: PlaceOf) -> pa.Table:
        with placed(place), np.errstate(over="ignore"):  # a number beyond float32 is infinite then, and refused below
            encoded = self.bundle.encoder.encode(raw)
        for feature, column in self.numbers.items():
            if (row := first_where(~np.isfinite(encoded[feature].to_numpy()))) is not None:
                raise RequestError([(place(column, row), "the number is too large for the model")])
        return encoded

    def _place_in_head(self, column: str, _: int | None) -> Place:
        return ("user" if column in self.inputs.user.columns else "context", column)
