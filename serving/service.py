"""The service: what the endpoints of one app share."""

import gc

import orjson
from anyio import CapacityLimiter, to_thread

from serving.errors import RequestError
from serving.loading import Load, Served, admit
from serving.metrics import Metrics
from serving.schemas import RankRequest, ScoreRequest
from serving.settings import Settings
from serving.slot import Slot


class Service:
    """Settings, the model in its slot, metrics, and turns at scoring."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slot = Slot(settings.model)
        self.metrics = Metrics()
        self.turns = CapacityLimiter(settings.scoring_threads)

    def start(self, load: Load) -> None:
        """Load the model and let it in."""
        self.slot.fill(lambda: self._admitted(load))

    async def answer(self, body: bytes, kind: type[ScoreRequest], request_id: str) -> bytes:
        """Answer in a thread: the event loop stays free for health checks and for reading the next bodies.

        Raises:
            NotReady: there is no model.
            RequestValidationError: the body does not have the shape of a request of this kind.
            RequestError: the request asks for what the model does not have or cannot read.
        """
        return await to_thread.run_sync(self._answer, body, kind, request_id, limiter=self.turns)

    def _answer(self, body: bytes, kind: type[ScoreRequest], request_id: str) -> bytes:
        served = self.slot.get()
        question = served.scorer.read(body, kind)
        count, limit = len(question.item_ids), self.settings.max_candidates
        if count > limit:
            raise RequestError([(("candidates",), f"{count} are too many; this service takes up to {limit}")])
        scores = served.scorer.score(question)
        tasks = served.scorer.bundle.tasks
        self.metrics.scored(scores, served.scorer)
        answer = {
            "request_id": request_id,
            "model": {"name": served.name.name, "version": served.name.version},
            "fusion": {"name": scores.fusion.name, "version": scores.fusion.version},
            "candidates": scores.candidates(tasks, ranked=issubclass(kind, RankRequest)),
        }
        return orjson.dumps(answer)

    def _admitted(self, load: Load) -> Served:
        served = admit(load(self.settings))
        self.metrics.serves(served)
        spare_the_collector()
        return served


def spare_the_collector() -> None:
    """Keep what stays for good (libraries, model) out of later garbage collections.

    A full collection walks all of it: 0.2 s in which every request waits, several times a minute under load.
    """
    gc.collect()
    gc.freeze()
