"""The service: what the endpoints of one app share."""

import orjson
import torch
from anyio import CapacityLimiter, to_thread

from serving.errors import RequestError
from serving.following import Follower
from serving.lineup import Lineup
from serving.loading import Load, Served, load
from serving.metrics import Metrics
from serving.schemas import RankRequest, ScoreRequest
from serving.scorer import Scores
from serving.settings import Settings
from serving.shadow import Shadow
from serving.shared import Shared
from serving.traffic import Switch


class Service:
    """Settings, the models in their slots, the traffic between them, metrics, and turns at scoring."""

    def __init__(self, settings: Settings, load: Load = load, shared: Shared | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics(shared)
        self.lineup = Lineup(settings)
        self.switch = Switch(settings)
        self.shadow = Shadow(self.metrics, settings.shadow_queue)
        self.follower = Follower(self.lineup, settings, self.metrics, load)
        self.turns = CapacityLimiter(settings.scoring_threads)
        self.is_started = False

    def start(self) -> None:
        """Begin to load the models; they are looked after until the service stops."""
        if self.is_started:
            return
        self.is_started = True
        torch.set_num_threads(self.settings.intra_op_threads)
        self.shadow.start()
        self.follower.start()

    def stop(self) -> None:
        """Look after the models no more."""
        self.follower.stopping.set()
        self.shadow.stop()

    async def answer(self, body: bytes, kind: type[ScoreRequest], request_id: str) -> bytes:
        """Answer in a thread: the event loop stays free for health checks and for reading the next bodies.

        Raises:
            NotReady: there is no model.
            RequestValidationError: the body does not have the shape of a request of this kind.
            RequestError: the request asks for what the model does not have or cannot read.
        """
        return await to_thread.run_sync(self._answer, body, kind, request_id, limiter=self.turns)

    def _answer(self, body: bytes, kind: type[ScoreRequest], request_id: str) -> bytes:
        traffic = self.switch.now()
        served = self.lineup.choose(body, request_id, traffic)
        question = served.scorer.read(body, kind)
        count, limit = len(question.item_ids), self.settings.max_candidates
        if count > limit:
            raise RequestError([(("candidates",), f"{count} are too many; this service takes up to {limit}")])
        scores = served.scorer.score(question)
        self.metrics.scored(scores, served.scorer)
        self.metrics.answered_by(served)
        if traffic.shadow:
            self._shadow(body, served, scores)
        answer = {
            "request_id": request_id,
            "model": {"name": served.name.name, "version": served.name.version, "role": served.role},
            "fusion": {"name": scores.fusion.name, "version": scores.fusion.version},
            "candidates": scores.candidates(served.scorer.bundle.tasks, ranked=issubclass(kind, RankRequest)),
        }
        return orjson.dumps(answer)

    def _shadow(self, body: bytes, served: Served, scores: Scores) -> None:
        challenger = self.lineup.challenger.served if self.lineup.challenger else None
        if challenger is not None and served.role == "champion":
            self.shadow.offer((body, served, scores.scores_BT, challenger))
