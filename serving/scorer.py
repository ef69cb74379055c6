"""The scorer: a bundle's answer to one request, the same for HTTP requests and for golden ones."""

from dataclasses import dataclass

from torch import Tensor

from recsys_mtl.bundle import Bundle
from recsys_mtl.data.values import first_where
from recsys_mtl.fusion import Formula, fuse
from recsys_mtl.inference import Engine
from serving.errors import RequestError
from serving.reader import Question, Reader
from serving.schemas import FormulaName


@dataclass(frozen=True)
class Scores:
    """What a model says of a request's candidates, in the request's order."""

    question: Question
    scores_BT: Tensor
    fused_B: Tensor
    fusion: FormulaName

    def ranking(self) -> list[int]:
        """Order the candidates by fused score, best first; ties stay in the request's order."""
        return self.fused_B.argsort(descending=True, stable=True).tolist()[: self.question.top_k]


class Scorer:
    """Reads, scores and fuses with one bundle. Calls from several threads do not disturb each other."""

    def __init__(self, bundle: Bundle) -> None:
        """Make a scorer.

        Raises:
            ConfigError: a formula of the bundle reads an objective that its model does not have.
        """
        bundle.fusions.check(bundle.tasks, where="fusion.yaml: ")
        self.bundle, self.reader, self.engine = bundle, Reader(bundle.encoder), Engine.of(bundle)

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
