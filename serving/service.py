"""The service: what the endpoints of one app share."""

import sys

import torch

from serving.answering import Answering
from serving.drift import Expected
from serving.following import Follower
from serving.keyring import Keyring
from serving.lineup import Lineup
from serving.loading import Load, load
from serving.metrics import Metrics
from serving.reader import Body
from serving.request_log import Note
from serving.settings import Settings
from serving.shadow import Shadow
from serving.shared import Shared
from serving.states import Readiness
from serving.store.desk import open_desk
from serving.traffic import Switch
from serving.turns import Ask, Turns

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
        self.answering = Answering(settings, self.lineup, self.switch, self.shadow, self.metrics)
        self.turns = Turns(settings.scoring_threads, settings.max_waiting, self.answering.answer_waiting)
        self.keyring = Keyring(settings)
        self.metrics.watch_drift(self._expected_inputs, settings.drift_share)
        self.store = open_desk(settings, self.metrics.registry)
        self.is_started = self.is_draining = False

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

    def readiness(self) -> Readiness:
        """Say what `/readyz` says."""
        found = self.lineup.readiness()
        if not self.is_draining:
            return found
        return found.model_copy(update={"status": "draining", "reason": "the service is about to end"})

    def _expected_inputs(self) -> Expected:
        served = self.lineup.champion.served
        return {} if served is None else served.scorer.bundle.inputs

    async def answer(self, body: Body, note: Note, *, arrow: bool) -> bytes:
        """Answer in a thread: the event loop stays free for health checks and for reading the next bodies.

        Raises:
            NotReady: there is no model.
            Busy: too many requests wait already.
            RequestValidationError: the body does not have the shape of a request of this kind.
            RequestError: the request asks for what the model does not have or cannot read.
        """
        ask, run = Ask(body, note, arrow), self.turns.run
        with self.turns.place():
            return await (run(ask, None) if self.store is None else self.store.serve(ask, run))
