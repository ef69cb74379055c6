"""The scorer: a bundle's answer to one request, the same for HTTP requests and for golden ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.values import first_where
from recsys_mtl.fusion import Formula
from recsys_mtl.inference import Engine
from serving.errors import RequestError
from serving.explain import Explainer
from serving.formulas import Formulas
from serving.reader import Question, Reader
from serving.schemas import FormulaName, InlineFormula


@dataclass(frozen=True)
class Scores:
    """What a model says of a request's candidates, in the request's order."""

    question: Question
    scores_BT: Tensor
    fused_B: Tensor
    fusion: FormulaName | InlineFormula
    formula: Formula

    def order(self, *, ranked: bool) -> list[int]:
        """Return which candidates to answer with: the best first, or all as in the request; ties keep that order."""
        if not ranked:
            return list(range(len(self.question.item_ids)))
        return self.fused_B.argsort(descending=True, stable=True).tolist()[: self.question.top_k]


class Scorer:
    """Reads, scores and fuses with one bundle. Calls from several threads do not disturb each other."""

    def __init__(self, bundle: Bundle) -> None:
        """Make a scorer.

        Raises:
            ConfigError: a formula of the bundle does not fit its model.
        """
        self.formulas = Formulas(bundle.fusions, bundle.manifest.tasks)
        self.bundle, self.reader, self.engine = bundle, Reader(bundle.encoder), Engine.of(bundle)
        self.explainer = Explainer(bundle.ranker, self.engine, self.formulas)

    def score(self, question: Question) -> Scores:
        """Score a request's candidates.

        Raises:
            RequestError: there is no such formula, or a score is not finite.
        """
        (scores,) = self.score_together([question])
        if isinstance(scores, Exception):
            raise scores
        return scores

    def score_together(self, questions: Sequence[Question]) -> list[Scores | Exception]:
        """Score the candidates of several requests at once; what is wrong with one does not touch the others."""
        try:
            found = self.engine.score_together([(question.head, question.candidates) for question in questions])
        except Exception as error:
            return [error] if len(questions) == 1 else [self.score_together([one])[0] for one in questions]
        return [self._scores(*one) for one in zip(questions, found, strict=True)]

    def _scores(self, question: Question, scores_BT: Tensor) -> Scores | Exception:
        try:
            fusion, formula = self.formulas.find(question.fusion)
            if (row := first_where(~scores_BT.isfinite().all(1).numpy())) is not None:
                raise RequestError([(("candidates", row), "has no finite score: numbers are too large for the model")])
            return Scores(question, scores_BT, self.formulas.fuse(formula, scores_BT), fusion, formula)
        except Exception as error:
            return error
