"""What a right answer is."""

import math
from collections.abc import Collection
from itertools import pairwise

import orjson
import pyarrow as pa

from benchmarks.serving.bodies import Json
from benchmarks.soak.asks import EVENTS, STREAM, Ask

TOLERANCE = 1e-5


class WrongAnswerError(Exception):
    """An answer of status 200 that is not one to what was asked."""


class Checker:
    """Reads every answer. The first scores of a whole request by a version are those that later ones must equal."""

    def __init__(self, versions: Collection[str]) -> None:
        self.versions = versions
        self.known: dict[tuple[str, str], list[float]] = {}

    def check(self, ask: Ask, content: bytes) -> str:
        """Return the version that answered.

        Raises:
            WrongAnswerError: with what is wrong.
        """
        if ask.path == EVENTS:
            answer = orjson.loads(content)
            _require(answer["added"] == 1 and answer["duplicates"] == 0, "an event that was not added")
            return ""
        answer, scores = read(ask, content)
        version = str(answer["model"]["version"])
        _require(version in self.versions, f"an answer of version {version}")
        _require(len(scores) == ask.candidates, f"{len(scores)} candidates instead of {ask.candidates}")
        _require(all(map(math.isfinite, scores)), "a score that is not finite")
        _require(ask.path != "/v1/rank" or _falls(scores), "candidates out of order")
        if ask.complete:
            same = _near(scores, self.known.setdefault((ask.name, version), scores))
            _require(same, f"other scores of version {version} than before")
        return version


def read(ask: Ask, content: bytes) -> tuple[Json, list[float]]:
    """Return an answer, and its candidates' scores in their order."""
    if ask.accept == STREAM:
        table = pa.ipc.open_stream(content).read_all()
        return orjson.loads((table.schema.metadata or {})[b"answer"]), [
            float(score) for score in table["score"].to_numpy()
        ]
    answer = orjson.loads(content)
    return answer, [float(row["score"]) for row in answer["candidates"]]


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WrongAnswerError(otherwise)


def _falls(scores: list[float]) -> bool:
    return all(one >= other for one, other in pairwise(scores))


def _near(scores: list[float], known: list[float]) -> bool:
    pairs = zip(scores, known, strict=True)
    return all(math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for one, other in pairs)
