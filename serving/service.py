"""The service: what the endpoints of one app share."""

import gc
from collections.abc import Callable
from functools import partial

from anyio import CapacityLimiter, to_thread

from serving.errors import RequestError
from serving.loading import Load, Served, admit
from serving.metrics import Metrics
from serving.schemas import ScoreAnswer, ScoreRequest
from serving.scorer import Scores
from serving.settings import Settings
from serving.slot import Slot
from serving.store.base import LookUp
from serving.store.desk import open_desk

Order = Callable[[Scores], list[int]]
"""Which candidates to return, by their position in the request, and in which order."""


class Service:
    """Settings, the model in its slot, metrics, and turns at scoring."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slot = Slot(settings.model)
        self.metrics = Metrics()
        self.turns = CapacityLimiter(settings.scoring_threads)
        self.store = open_desk(settings, self.metrics.registry)

    def start(self, load: Load) -> None:
        """Load the model and let it in."""
        self.slot.fill(lambda: self._admitted(load))

    async def answer(self, body: ScoreRequest, request_id: str, order: Order) -> ScoreAnswer:
        """Answer in a thread: the event loop stays free for health checks and for reading the next bodies.

        Raises:
            NotReady: there is no model.
            RequestError: the request asks for what the model does not have or cannot read.
        """
        run = partial(to_thread.run_sync, limiter=self.turns)
        answer = partial(self._answer, body, request_id, order)
        return await (run(answer, None) if self.store is None else self.store.serve(answer, run))

    def _answer(self, body: ScoreRequest, request_id: str, order: Order, look_up: LookUp | None) -> ScoreAnswer:
        served = self.slot.get()
        count, limit = len(body.candidates), self.settings.max_candidates
        if count > limit:
            raise RequestError([(("candidates",), f"{count} are too many; this service takes up to {limit}")])
        scores = served.scorer.score(body, look_up)
        tasks = served.scorer.bundle.tasks
        self.metrics.scored(scores, tasks)
        candidates = scores.candidates(tasks, order(scores))
        return ScoreAnswer(request_id=request_id, model=served.name, fusion=scores.fusion, candidates=candidates)

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
