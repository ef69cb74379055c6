"""Bodies of requests and answers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from recsys_mtl.fusion import Fusions
from serving.settings import Role

SCALAR = {"anyOf": [{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")]}
Cell = Annotated[Any, WithJsonSchema({"anyOf": [*SCALAR["anyOf"], {"type": "array", "items": SCALAR}]})]
"""A raw value. Its type is checked against the feature that reads it, a column at a time and not value by value."""

SMALLEST_ID, LARGEST_ID = -(2**63), 2**64 - 1
LONGEST_ID = 256
LARGEST_WHOLE_FLOAT = 2**53


def read_id(value: Any) -> int | str:
    """Accept text and whole numbers; a whole float, as tables with empty cells give, counts as the number it is."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_WHOLE_FLOAT:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and SMALLEST_ID <= value <= LARGEST_ID:
        return value
    if isinstance(value, str) and 0 < len(value) <= LONGEST_ID:
        return value
    raise ValueError(f"expected text of 1 to {LONGEST_ID} characters or a whole number of 64 bits")


ItemId = Annotated[
    int | str,
    PlainValidator(read_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": SMALLEST_ID, "maximum": LARGEST_ID},
                {"type": "string", "minLength": 1, "maxLength": LONGEST_ID},
            ]
        }
    ),
]


class RequestPart(BaseModel):
    """A part of a request: unknown fields are refused, since they would be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Candidate(RequestPart):
    """An item to score: its id, and the raw values of item features beside it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Cell]

    item_id: ItemId
    """Comes back in the answer; also the value of the schema's item column where the candidate does not give one."""


class ScoreRequest(RequestPart):
    """One user, one context and the items to score for them. Names of features are those of the data set's columns."""

    user: dict[str, Cell]
    """Raw values of user features; ``user_id`` stands for the schema's user column. An absent feature is missing."""
    context: dict[str, Cell] = {}
    """Raw values of context features."""
    candidates: Annotated[list[Candidate], Field(min_length=1)]
    """Items to score, as many as the service's ``max_candidates`` allows."""
    fusion: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name of one of the model's score formulas; the default one where it is not given."""
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Which model shall answer: ``champion``, ``challenger``, or a ``VERSION`` or ``NAME/VERSION`` of `/v1/models`;
    where it is not given, the one that the user's share of the traffic goes to."""


class RankRequest(ScoreRequest):
    """A score request whose answer is put in order."""

    top_k: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Number of candidates to return, the best ones; all where it is not given."""


Status = Literal["loading", "ready", "refused", "waiting"]
"""Of a model: ``waiting`` for a registry that cannot be reached, or does not have it yet."""


class AnswerPart(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ModelName(AnswerPart):
    """Which model an answer comes from."""

    name: str
    version: str


class Answering(ModelName):
    """The model that answered, and as what."""

    role: Role


class FormulaName(AnswerPart):
    """Which formula an answer's scores come from."""

    name: str
    version: int


class ScoredCandidate(AnswerPart):
    """A candidate with everything that the model says of it."""

    item_id: int | str
    objectives: dict[str, float]
    """By objective: the calibrated probability of an event, or an amount in its natural unit."""
    score: float
    """The objectives fused by the formula; higher is better."""


class ScoreAnswer(AnswerPart):
    """Scores, and what they come from."""

    request_id: str
    """The request's ``X-Request-ID``, or one made for it."""
    model: Answering
    fusion: FormulaName
    candidates: list[ScoredCandidate]
    """In the request's order for ``/v1/score``, best first for ``/v1/rank``; equal scores keep the request's order."""


class Objective(AnswerPart):
    """One thing that a model predicts."""

    name: str
    kind: str
    """``binary``: scores are probabilities; ``regression``: amounts."""
    unit: str | None
    """Of an amount."""
    space: str | None
    """The probability holds for impressions with this event: the chance of a like among those who click."""


class Input(AnswerPart):
    """One raw value that a model reads."""

    name: str
    kind: str
    """``id``, ``ids`` (list), ``sequence`` (list, oldest first) or ``number``."""


class ModelDescription(AnswerPart):
    """A model that is being served."""

    name: str
    version: str
    role: Role
    uri: str
    """Address that it was loaded from."""
    fingerprint: str
    """Of the feature specification: the same as that of the data sets it can be evaluated on."""
    golden_requests: int
    """Requests whose expected scores it reproduced before it was let in."""
    objectives: list[Objective]
    inputs: dict[str, list[Input]]
    """Raw values by part of the request: ``user``, ``context`` and ``candidates``."""
    fusions: Fusions


class Refusal(AnswerPart):
    """A version that was not let in."""

    version: str | None
    reason: str


class ModelState(AnswerPart):
    """How it stands with the model of one address."""

    role: Role
    uri: str
    status: Status
    """``ready`` when it answers."""
    reason: str
    """What is being waited for, or why there is no model."""
    model: ModelName | None = None
    stale: bool = False
    """Whether the registry could not be asked lately, so that there may be a newer version."""
    refused: Refusal | None = None
    """A newer version that failed its checks; it is not tried again until the alias moves."""


class Models(AnswerPart):
    """What can answer now, and how it stands with every address."""

    models: list[ModelDescription]
    states: list[ModelState]


class Readiness(ModelState):
    """Whether requests can be answered: the state of the champion."""

    others: list[ModelState]
    """The challenger and the pinned models; requests that do not ask for them do not need them."""


class Health(AnswerPart):
    """The process is alive."""

    status: str = "ok"
