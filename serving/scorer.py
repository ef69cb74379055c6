"""The scorer: a bundle's answer to one request, the same for HTTP requests and for golden ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.schema import NumberFeature, SequenceFeature, column_of
from recsys_mtl.data.spec import Spec
from recsys_mtl.data.values import FeatureError, first_where
from recsys_mtl.fusion import Formula, fuse
from serving.errors import RequestError
from serving.inputs import Inputs, Place
from serving.schemas import FormulaName, ScoredCandidate, ScoreRequest


@dataclass(frozen=True)
class Scores:
    """What a model says of a request's candidates, in the request's order."""

    item_ids: list[int | str]
    scores_BT: Tensor
    fused_B: Tensor
    fusion: FormulaName
    encoded: pa.Table
    """Inputs of the model, one row per candidate."""

    def candidates(self, tasks: tuple[str, ...], order: list[int]) -> list[ScoredCandidate]:
        """Return the candidates of ``order``, each with its scores by task."""
        scores, fused = self.scores_BT.tolist(), self.fused_B.tolist()
        return [
            ScoredCandidate.model_construct(
                item_id=self.item_ids[row], objectives=dict(zip(tasks, scores[row], strict=True)), score=fused[row]
            )
            for row in order
        ]

    def ranking(self, top_k: int | None) -> list[int]:
        """Order the candidates by fused score, best first; ties stay in the request's order."""
        return self.fused_B.argsort(descending=True, stable=True).tolist()[:top_k]


class Scorer:
    """Encodes, scores and fuses with one bundle. Calls from several threads do not disturb each other."""

    def __init__(self, bundle: Bundle) -> None:
        """Make a scorer.

        Raises:
            ConfigError: a formula of the bundle reads an objective that its model does not have.
        """
        bundle.fusions.check(bundle.manifest.tasks, where="fusion.yaml: ")
        self.bundle = bundle
        self.inputs = Inputs(bundle.encoder.spec)
        self.per_candidate = names_of(bundle.encoder.spec, per_candidate=True)
        self.per_request = names_of(bundle.encoder.spec, per_candidate=False)
        self.numbers = {
            feature.name: column_of(feature)
            for feature in bundle.encoder.spec.features
            if isinstance(feature, NumberFeature) and feature.boundaries is None
        }

    def score(self, request: ScoreRequest) -> Scores:
        """Score a request's candidates.

        Raises:
            RequestError: a name that the model does not know, or a value that it cannot take.
        """
        fusion, formula = self.formula(request.fusion)
        self.inputs.check_names(request)
        encoded = self.encode(request)
        scores_BT = self.bundle.score_encoded(encoded)
        if (row := first_where(~scores_BT.isfinite().all(1).numpy())) is not None:
            raise RequestError([(("candidates", row), "has no finite score: numbers are too large for the model")])
        fused_B = fuse(formula, scores_BT, self.bundle.tasks)
        return Scores([c.item_id for c in request.candidates], scores_BT, fused_B, fusion, encoded)

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

    def encode(self, request: ScoreRequest) -> pa.Table:
        """Encode what belongs to the request once and repeat it for every candidate.

        Raises:
            RequestError: a value that its feature cannot take.
        """
        columns: dict[str, Any] = {}
        first = np.zeros(len(request.candidates), np.int64)
        head = self._encoded(self.inputs.head(request), self._place_in_head)
        columns |= {name: head[name].take(first) for name in self.per_request}
        items = self._encoded(self.inputs.items(request), place_in_candidates)
        columns |= {name: items[name] for name in self.per_candidate}
        return pa.table(columns)

    def _encoded(self, raw: pa.Table, place: Callable[[str, int | None], Place]) -> pa.Table:
        try:
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused below
                encoded = self.bundle.encoder.encode(raw)
        except FeatureError as error:
            raise RequestError([(place(error.column, error.row), error.message)]) from None
        for feature, column in self.numbers.items():
            if (row := first_where(~np.isfinite(encoded[feature].to_numpy()))) is not None:
                raise RequestError([(place(column, row), "the number is too large for the model")])
        return encoded

    def _place_in_head(self, column: str, _: int | None) -> Place:
        return ("user" if column in self.inputs.user.columns else "context", column)


def place_in_candidates(column: str, row: int | None) -> Place:
    """Say where in the request a raw column's value is."""
    return ("candidates", column) if row is None else ("candidates", row, column)


def names_of(spec: Spec, *, per_candidate: bool) -> list[str]:
    """List the encoded columns of item features, or of all others."""
    names: list[str] = []
    for feature in spec.features:
        if (feature.entity == "item") == per_candidate:
            parts = feature.columns if isinstance(feature, SequenceFeature) else (feature,)
            names += [part.name for part in parts]
    return names
