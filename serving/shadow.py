"""Shadow scoring: the challenger scores what the champion has answered, unseen, and its scores are compared."""

import logging
import queue
import threading
from dataclasses import replace

from torch import Tensor

from serving.loading import Served
from serving.metrics import Metrics
from serving.schemas import RankRequest

log = logging.getLogger(__name__)

Scored = tuple[bytes, Served, Tensor, Served]
"""A body, the model that answered it, its scores (B, T), and the model to compare it with."""


class Shadow:
    """A bounded queue and one thread, apart from the requests: what does not fit in is left out, never waited for."""

    def __init__(self, metrics: Metrics, places: int) -> None:
        self.metrics = metrics
        self.waiting: queue.Queue[Scored | None] = queue.Queue(places)

    def start(self) -> None:
        """Begin to score."""
        threading.Thread(target=self.run, name="shadow", daemon=True).start()

    def stop(self) -> None:
        """End the thread when it has scored what waits; if there is no room for the word, it ends with the process."""
        try:
            self.waiting.put_nowait(None)
        except queue.Full:
            log.debug("shadow scoring is left to end with the process")

    def offer(self, scored: Scored) -> None:
        """Take a request if there is room."""
        try:
            self.waiting.put_nowait(scored)
        except queue.Full:
            self.metrics.shadow.labels("dropped").inc()

    def run(self) -> None:
        """Score one request after the other."""
        while (scored := self.waiting.get()) is not None:
            try:
                self.compare(*scored)
            except Exception as error:  # a challenger that cannot score what the champion can: that is a result
                self.metrics.shadow.labels("failed").inc()
                log.debug("shadow scoring failed: %s", error)
            else:
                self.metrics.shadow.labels("scored").inc()
            del scored  # else an old model would stay until the next request

    def compare(self, body: bytes, served: Served, scores_BT: Tensor, challenger: Served) -> None:
        """Count how far the scores of the objectives that both models have are apart."""
        question = replace(challenger.scorer.read(body, RankRequest), fusion=None)
        own_BT = challenger.scorer.score(question).scores_BT
        tasks, own_tasks = served.scorer.bundle.tasks, challenger.scorer.bundle.tasks
        for column, task in enumerate(tasks):
            if task in own_tasks:
                own_B = own_BT[:, own_tasks.index(task)].double().numpy()
                difference_B = own_B - scores_BT[:, column].double().numpy()
                self.metrics.differences.observe((task, "higher"), difference_B[difference_B >= 0])
                self.metrics.differences.observe((task, "lower"), -difference_B[difference_B < 0])
