"""The service: what the endpoints of one app share."""

import sys
from functools import partial

import torch
from anyio import CapacityLimiter, to_thread

from serving.answers import write_answer
from serving.following import Follower
from serving.lineup import Lineup
from serving.loading import Load, Served, load
from serving.metrics import Metrics
from serving.reader import Body
from serving.schemas import RankRequest
from serving.scorer import Scores
from serving.settings import Settings
from serving.shadow import Shadow
from serving.shared import Shared
from serving.store.base import LookUp
from serving.store.desk import open_desk
from serving.traffic import Switch

SWITCH_SECONDS = 0.0005
"""How long a thread that loads a model may keep the interpreter from one that answers: a request asks for it back after
every operation of torch, so Python's own 5 ms would add up."""


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
        self.store = open_desk(settings, self.metrics.registry)
        self.is_started = False

    def start(self) -> None:
        """Begin to load the models; they are looked after until the service stops."""
        if self.is_started:
            return
        self.is_started = True
        torch.set_num_threads(self.settings.intra_op_threads)
        sys.setswitchinterval(SWITCH_SECONDS)
        self.shadow.start()
        self.follower.start()

    def stop(self) -> None:
        """Look after the models no more."""
        self.follower.stopping.set()
        self.shadow.stop()

    async def answer(self, body: Body, request_id: str, *, arrow: bool) -> bytes:
        """Answer in a thread: the event loop stays free for health checks and for reading the next bodies.

        Raises:
            NotReady: there is no model.
            RequestValidationError: the body does not have the shape of a request of this kind.
            RequestError: the request asks for what the model does not have or cannot read.
        """
        run = partial(to_thread.run_sync, limiter=self.turns)
        answer = partial(self._answer, body, request_id, arrow)
        return await (run(answer, None) if self.store is None else self.store.serve(answer, run))

    def _answer(self, body: Body, request_id: str, arrow: bool, look_up: LookUp | None) -> bytes:
        traffic = self.switch.now()
        served = self.lineup.choose(body.head, request_id, traffic)
        question = served.scorer.reader.read(body, self.settings.max_candidates, look_up)
        scores = served.scorer.score(question)
        self.metrics.scored(scores, served.scorer)
        self.metrics.answered_by(served)
        if traffic.shadow:
            self._shadow(body, served, scores, look_up)
        head = {
            "request_id": request_id,
            "model": {"name": served.name.name, "version": served.name.version, "role": served.role},
            "fusion": scores.fusion.model_dump(),
        }
        return write_answer(head, scores, served.scorer, ranked=body.kind is RankRequest, arrow=arrow)

    def _shadow(self, body: Body, served: Served, scores: Scores, look_up: LookUp | None) -> None:
        challenger = self.lineup.challenger.served if self.lineup.challenger else None
        if challenger is not None and served.role == "champion":
            self.shadow.offer((body, served, scores.scores_BT, challenger, look_up))
