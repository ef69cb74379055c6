"""The golden check: a model is let in only if it reproduces the scores that it had when it was trained."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from torch import Tensor

from recsys_mtl.bundle import SCORE_TOLERANCE
from recsys_mtl.config import ConfigError
from serving.errors import RequestError
from serving.reader import Body
from serving.schemas import ScoreRequest
from serving.scorer import Scorer


@dataclass(frozen=True)
class Deviation:
    """How far a score is from what it should be."""

    place: str
    expected: float
    actual: float

    @property
    def size(self) -> float:
        """The difference: absolute for probabilities, relative for amounts above 1."""
        return abs(self.actual - self.expected) / max(1.0, abs(self.expected))


def verify(scorer: Scorer, rest_seconds: float = 0.0) -> int:
    """Score the bundle's golden requests as if they came over HTTP; return how many there are.

    Between two of them it rests, so that requests to the model that answers meanwhile have their turn.

    Raises:
        ConfigError: there are none, one cannot be read, or a score is further off than `SCORE_TOLERANCE`.
    """
    golden = scorer.bundle.golden
    if not golden:
        raise ConfigError(
            ["golden.jsonl: no golden request, so nothing proves that online scores are the offline ones"]
        )
    deviations: list[Deviation] = []
    for number, case in enumerate(golden, start=1):
        deviations += _deviations(scorer, number, case)
        time.sleep(rest_seconds)
    worst = max(deviations, key=lambda found: found.size)
    if not worst.size <= SCORE_TOLERANCE:
        off = sum(not found.size <= SCORE_TOLERANCE for found in deviations)
        count = f"{off} of {len(deviations)} expected scores are not reproduced"
        scores = f"expected {worst.expected:.6g}, got {worst.actual:.6g} (tolerance {SCORE_TOLERANCE:g})"
        raise ConfigError([f"golden.jsonl: {count}; the worst is {worst.place}: {scores}"])
    return len(golden)


def _deviations(scorer: Scorer, number: int, case: dict[str, Any]) -> Iterator[Deviation]:
    try:
        scores = _scores(scorer, case).tolist()
    except RequestError as error:
        raise ConfigError([f"golden.jsonl: request {number}: {error}"]) from None
    except RequestValidationError as error:
        raise ConfigError(
            f"golden.jsonl: request {number}: {'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}"
            for problem in error.errors()
        ) from None
    for row, (expected, actual) in enumerate(zip(case["expected"], scores, strict=True)):
        for task, score in zip(scorer.bundle.tasks, actual, strict=True):
            yield Deviation(f"request {number}, candidates.{row}, task {task}", expected[task], score)


def _scores(scorer: Scorer, case: dict[str, Any]) -> Tensor:
    body = Body(orjson.dumps(case["request"]), ScoreRequest)
    return scorer.score(scorer.reader.read(body, len(case["request"]["candidates"]))).scores_BT
