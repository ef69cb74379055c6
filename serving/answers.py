"""Scores to the bytes of an answer, as JSON or as an Arrow stream."""

from typing import Any

import orjson
import torch

from serving.arrow import write_stream
from serving.errors import RequestError
from serving.scorer import Scorer, Scores

Json = dict[str, Any]


def write_answer(head: Json, scores: Scores, scorer: Scorer, *, ranked: bool, arrow: bool) -> bytes:
    """Write the candidates, best first or in the request's order, after what else an answer says in ``head``.

    Raises:
        RequestError: explanations are asked for that cannot be given.
    """
    order, tasks = scores.order(ranked=ranked), scorer.bundle.tasks
    if arrow:
        if scores.question.explain:
            raise RequestError([(("explain",), "explanations are given in JSON: do not ask for an Arrow stream")])
        return write_stream(head, columns(scores, tasks, order))
    found = candidates(scores, tasks, order)
    more = explain(found, scores, scorer, order) if scores.question.explain else {}
    return orjson.dumps({**head, "candidates": found, **more})


def candidates(scores: Scores, tasks: tuple[str, ...], order: list[int]) -> list[Json]:
    """Return the candidates of ``order``, each with its scores by task."""
    item_ids, rows, fused = scores.question.item_ids, scores.scores_BT.tolist(), scores.fused_B.tolist()
    return [
        {"item_id": item_ids[row], "objectives": dict(zip(tasks, rows[row], strict=True)), "score": fused[row]}
        for row in order
    ]


def columns(scores: Scores, tasks: tuple[str, ...], order: list[int]) -> dict[str, Any]:
    """Return the same as columns: the id, the score, and one for each objective."""
    place = torch.tensor(order)
    objectives = zip(tasks, scores.scores_BT.index_select(0, place).unbind(1), strict=True)
    return {
        "item_id": [scores.question.item_ids[row] for row in order],
        "score": scores.fused_B.index_select(0, place).numpy(),
        **{f"objectives.{task}": score_B.numpy() for task, score_B in objectives},
    }


def explain(found: list[Json], scores: Scores, scorer: Scorer, order: list[int]) -> Json:
    """Add to each candidate why it has its score; return what that is compared with.

    Raises:
        RequestError: the formula has no finite value where an objective is at its mean.
    """
    explainer, question, tasks = scorer.explainer, scores.question, scorer.bundle.tasks
    shares = explainer.contributions(scores.formula, scores.scores_BT, scores.fused_B).tolist()
    gates = explainer.gates(question.head, question.candidates, order)
    for row, candidate, weights in zip(order, found, gates, strict=True):
        own = dict(zip(tasks, shares[row], strict=True))
        candidate["explanation"] = {"contributions": own, "gates": weights}
    return {"baseline": explainer.baseline(scores.formula, scores.scores_BT)}
