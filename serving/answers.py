"""Scores to the bytes of an answer, as JSON or as an Arrow stream."""

from typing import Any

import orjson
import torch

from serving.arrow import write_stream
from serving.scorer import Scores


def write_answer(head: dict[str, Any], scores: Scores, tasks: tuple[str, ...], *, ranked: bool, arrow: bool) -> bytes:
    """Write the candidates, best first or in the request's order, after what else an answer says in ``head``."""
    order = scores.ranking() if ranked else list(range(len(scores.question.item_ids)))
    if arrow:
        return write_stream(head, columns(scores, tasks, order))
    return orjson.dumps({**head, "candidates": candidates(scores, tasks, order)})


def candidates(scores: Scores, tasks: tuple[str, ...], order: list[int]) -> list[dict[str, Any]]:
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
