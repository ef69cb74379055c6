"""The slot of a model: the one place that knows which version of it answers, and why none does."""

import logging
import time

from recsys_mtl.registry import BundlePlace
from serving.errors import NotReady
from serving.loading import Served
from serving.schemas import ModelState, Refusal, Status
from serving.settings import Role

log = logging.getLogger(__name__)


class Slot:
    """Holds a reference to the served model; a request takes it once, and sees one model from beginning to end."""

    def __init__(self, role: Role, uri: str) -> None:
        self.role, self.uri = role, uri
        self.status: Status = "loading"
        self.reason = f"loading {uri}"
        self.served: Served | None = None
        self.refused: tuple[BundlePlace, str] | None = None
        self.stale_since: float | None = None

    def fill(self, served: Served, seconds: float) -> None:
        """Let requests in to a model that has passed its checks; those that began with another end with that."""
        self.refused = None
        self.served = served
        self.status = "ready"
        self.reason = f"{served.description.golden_requests} golden requests reproduced"
        name, role = served.name, "" if self.role == "champion" else f" ({self.role})"
        log.info("ready: %s version %s%s in %.1f s, %s", name.name, name.version, role, seconds, self.reason)

    def refuse(self, place: BundlePlace, error: Exception) -> None:
        """Remember a bundle that failed; the model that answers goes on."""
        reason = text_of(error)
        if self.served is None:
            self.status, self.reason = "refused", reason
        self.refused = (place, reason)
        which = self.uri if place.version is None else f"{self.uri} (version {place.version})"
        log.error("refused %s: %s", which, reason, exc_info=not isinstance(error, ValueError))

    def keeps(self, place: BundlePlace) -> bool:
        """Say whether there is nothing to do where an address means ``place``: it answers, or it has been refused."""
        if self.served is not None and self.served.place == place:
            self.refused = None  # the alias came back to the version that answers
            return True
        return self.refused is not None and self.refused[0] == place

    def lost(self, error: Exception) -> None:
        """Note that nobody can say what the address means now."""
        reason = text_of(error)
        if self.stale_since is None:
            self.stale_since = time.monotonic()
            log.warning("cannot look after %s: %s", self.uri, reason)
        if self.served is None:
            self.status, self.reason = "waiting", reason
        else:
            self.reason = f"version {self.served.name.version} stays, though there may be a newer one: {reason}"

    def found(self) -> None:
        """Note that the address means what it is known to mean."""
        if self.stale_since is not None:
            log.info("%s can be looked after again", self.uri)
            if self.served is not None:
                self.reason = f"{self.served.description.golden_requests} golden requests reproduced"
        if self.served is None and self.refused is not None:
            self.status, self.reason = "refused", self.refused[1]
        self.stale_since = None

    @property
    def stale_seconds(self) -> float:
        """For how long nobody has been able to say whether there is a newer version."""
        return 0.0 if self.stale_since is None else time.monotonic() - self.stale_since

    def get(self) -> Served:
        """Return the model that answers now.

        Raises:
            NotReady: there is none.
        """
        if self.served is None:
            raise NotReady(f"no model is ready: {self.reason}")
        return self.served

    def state(self) -> ModelState:
        """Say what `/readyz` and `/v1/models` say."""
        served, refused = self.served, self.refused
        return ModelState(
            role=self.role,
            uri=self.uri,
            status=self.status,
            reason=self.reason,
            model=served.name if served else None,
            stale=self.stale_since is not None,
            refused=Refusal(version=version_of(refused[0]), reason=refused[1]) if refused else None,
        )


def version_of(place: BundlePlace) -> str | None:
    """Write the version of a bundle that has one."""
    return None if place.version is None else str(place.version)


def text_of(error: Exception) -> str:
    """Say what went wrong, even where the error does not."""
    return str(error) or type(error).__name__
