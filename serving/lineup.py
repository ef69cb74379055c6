"""The models of a service by role, and which of them answers a request."""

from collections.abc import Iterator
from typing import Any

import msgspec

from serving.errors import NotReady, RequestError
from serving.inputs import USER_ID
from serving.loading import Served
from serving.settings import Settings
from serving.slot import Slot
from serving.states import Models, Readiness
from serving.traffic import Traffic, is_challenged


class Head(msgspec.Struct):
    """What of a request decides which model it goes to."""

    model: str | None = None
    user: dict[str, Any] = {}


DECODER = msgspec.json.Decoder(Head)


def head_of(body: bytes) -> Head:
    """Read the head of a request; of a body that is not in order, which the model will refuse, nothing."""
    try:
        return DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return Head()


class Lineup:
    """A slot for every address of the settings."""

    def __init__(self, settings: Settings) -> None:
        self.slots = [Slot(role, uri) for role, uri in settings.models]
        self.champion = self.slots[0]
        self.challenger = next((slot for slot in self.slots if slot.role == "challenger"), None)

    def choose(self, body: bytes, request_id: str, traffic: Traffic) -> Served:
        """Return the model that a request asks for, or that its user's share of the traffic goes to.

        The only model of a service is returned unasked: `check` looks at the wish when it has read the request, since
        to look for it in all of a large body first takes as long as half of its parsing.

        Raises:
            RequestError: there is none of this name.
            NotReady: it cannot answer.
        """
        if len(self.slots) == 1:
            return self.champion.get()
        head = head_of(body)
        if head.model is not None:
            return self.named(head.model)
        champion = self.champion.get()
        challenger = self.challenger.served if self.challenger else None
        if challenger is None or not traffic.challenger_percent:
            return champion
        identity = head.user.get(champion.user_key, head.user.get(USER_ID))
        return challenger if is_challenged(identity, request_id, traffic.challenger_percent) else champion

    def check(self, wish: str | None) -> None:
        """See that a model of this name is there.

        Raises:
            RequestError: there is none.
            NotReady: it cannot answer.
        """
        if wish is not None:
            self.named(wish)

    def named(self, model: str) -> Served:
        """Return the model of a role or a version.

        Raises:
            RequestError: there is none of this name.
            NotReady: it cannot answer.
        """
        for slot in self.slots:
            if slot.role == model and model != "pinned":  # of those there may be several
                return slot.get()
        for served in self.served():
            if model in (served.name.version, f"{served.name.name}/{served.name.version}"):
                return served
        if any(slot.served is None for slot in self.slots):
            raise NotReady(f"no model {model!r} is ready; not every model is: see /readyz")
        versions = [f"{served.name.name}/{served.name.version}" for served in self.served()]
        names = ", ".join(dict.fromkeys([*(slot.role for slot in self.slots if slot.role != "pinned"), *versions]))
        raise RequestError([(("model",), f"no model of this name; the service has {names}")])

    def served(self) -> Iterator[Served]:
        """Yield the models that can answer, the champion first."""
        yield from (slot.served for slot in self.slots if slot.served is not None)

    def models(self) -> Models:
        """Say what `/v1/models` says."""
        return Models(
            models=[served.description for served in self.served()], states=[slot.state() for slot in self.slots]
        )

    def readiness(self) -> Readiness:
        """Say what `/readyz` says."""
        champion, *others = (slot.state() for slot in self.slots)
        return Readiness(**champion.model_dump(), others=others)
