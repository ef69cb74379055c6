"""How it stands with the models: bodies of `/readyz`, `/v1/models` and `/healthz`."""

from typing import Literal

from serving.schemas import AnswerPart, ModelDescription, ModelName
from serving.settings import Role

Status = Literal["loading", "ready", "refused", "waiting", "draining"]
"""Of a model: ``waiting`` for a registry that cannot be reached, or does not have it yet; of a service that is about to
end, ``draining``."""


class Refusal(AnswerPart):
    """A version that was not let in."""

    version: str | None
    """The one that was refused, if its number could be learnt."""
    reason: str
    """Which check it failed, and how."""


class ModelState(AnswerPart):
    """How it stands with the model of one address."""

    role: Role
    """``champion``, ``challenger`` or ``pinned``."""
    uri: str
    """Address that is followed."""
    status: Status
    """``ready`` when it answers."""
    reason: str
    """What is being waited for, or why there is no model."""
    model: ModelName | None = None
    """What answers at present, if anything does."""
    stale: bool = False
    """Whether the registry could not be asked lately, so that there may be a newer version."""
    refused: Refusal | None = None
    """A newer version that failed its checks; it is not tried again until the alias moves."""


class Models(AnswerPart):
    """What can answer now, and how it stands with every address."""

    models: list[ModelDescription]
    """Those that answer."""
    states: list[ModelState]
    """One for every address that is followed."""


class Readiness(ModelState):
    """Whether requests can be answered: the state of the champion."""

    others: list[ModelState]
    """The challenger and the pinned models; requests that do not ask for them do not need them."""


class Health(AnswerPart):
    """The process is alive."""

    status: str = "ok"
    """Always ``ok``: where there is no answer, the process is not well."""
