"""The end of a service that is told to stop: first it says so, then it takes nothing more, then it is done."""

import logging
import threading
from types import FrameType

import uvicorn

from serving.service import Service
from serving.settings import DRAIN_SECONDS

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Goes on answering for ``drain_s`` after the first signal, while `/readyz` sends load balancers elsewhere."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends the waiting."""
        seconds = self.service.settings.drain_s
        if self.service.is_draining or not seconds:
            self.service.is_draining = True
            super().handle_exit(sig, frame)
            return
        self.service.is_draining = True
        log.info("told to stop: answering for %g s more, and up to %d s what is in flight then", seconds, DRAIN_SECONDS)
        timer = threading.Timer(seconds, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()
