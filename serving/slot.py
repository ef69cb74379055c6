"""The slot: the one place that knows which model answers, and why none does."""

import logging
import time
from collections.abc import Callable

from serving.errors import NotReady
from serving.loading import Served
from serving.schemas import Readiness, Status

log = logging.getLogger(__name__)


class Slot:
    """Holds a reference to the served model; a request takes it once, and sees one model from beginning to end."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.status: Status = "loading"
        self.reason = f"loading {uri}"
        self.served: Served | None = None

    def fill(self, make: Callable[[], Served]) -> None:
        """Load a model and let it in; one that fails in any way is refused and reported."""
        start = time.monotonic()
        try:
            served = make()
        except Exception as error:  # whatever is wrong with a bundle, the process stays up to say so
            self.reason = str(error) or type(error).__name__
            self.status = "refused"
            log.error("refused %s: %s", self.uri, self.reason, exc_info=not isinstance(error, ValueError))
            return
        self.served = served
        self.reason = f"{served.description.golden_requests} golden requests reproduced"
        self.status = "ready"
        seconds = time.monotonic() - start
        log.info("ready: %s version %s in %.1f s, %s", served.name.name, served.name.version, seconds, self.reason)

    def get(self) -> Served:
        """Return the model that answers now.

        Raises:
            NotReady: there is none.
        """
        if self.served is None:
            raise NotReady(f"no model is ready: {self.reason}")
        return self.served

    def readiness(self) -> Readiness:
        """Say what `/readyz` says."""
        return Readiness(status=self.status, reason=self.reason, model=self.served.name if self.served else None)
