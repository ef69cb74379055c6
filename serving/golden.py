"""The golden check: a model is let in only if it reproduces the scores that it had when it was trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError

from recsys_mtl.bundle import SCORE_TOLERANCE
from recsys_mtl.config import ConfigError
from serving.errors import RequestError
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


def verify(scorer: Scorer) -> int:
    """Score the bundle's golden requests as if they came over HTTP; return how many there are.

    Raises:
        ConfigError: there are none, one cannot be read, or a score is further off than `SCORE_TOLERANCE`.
    """
    golden = scorer.bundle.golden
    if not golden:
        raise ConfigError(
            ["golden.jsonl: no golden request, so nothing proves that online scores are the offline ones"]
        )
    deviations = [found for number, case in enumerate(golden, start=1) for found in _deviations(scorer, number, case)]
    worst = max(deviations, key=lambda found: found.size)
    if not worst.size <= SCORE_TOLERANCE:
        off = sum(not found.size <= SCORE_TOLERANCE for found in deviations)
        count = f"{off} of {len(deviations)} expected scores are not reproduced"
        scores = f"expected {worst.expected:.6g}, got {worst.actual:.6g} (tolerance {SCORE_TOLERANCE:g})"
        raise ConfigError([f"golden.jsonl: {count}; the worst is {worst.place}: {scores}"])
    return len(golden)


def _deviations(scorer: Scorer, number: int, case: dict[str, Any]) -> Iterator[Deviation]:
    try:
        scores = scorer.score(scorer.read(orjson.dumps(case["request"]), ScoreRequest)).scores_BT.tolist()
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
