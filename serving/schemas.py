"""Bodies of requests and answers."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from recsys_mtl.fusion import Fusions
from recsys_mtl.fusion.expression import LONGEST as LONGEST_FORMULA
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


class InlineFormula(RequestPart):
    """A formula that comes with the request."""

    expression: Annotated[str, Field(min_length=1, max_length=LONGEST_FORMULA)]
    """Names of objectives, numbers, ``+ - * / ^``, parentheses, ``log``, ``exp``, ``min`` and ``max``. It must not fall
    when an objective rises."""


def read_fusion(value: Any) -> str | InlineFormula:
    """Accept the name of a formula, or a formula: as text, or as an object that says that it is one."""
    text = value["expression"] if isinstance(value, dict) and set(value) == {"expression"} else value
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_FORMULA:
        shape = f"text of 1 to {LONGEST_FORMULA} characters"
        raise ValueError(f"expected {shape}, the name of a formula or a formula, or an object {{'expression': text}}")
    return text if text is value else InlineFormula(expression=text)


Fusion = Annotated[
    str | InlineFormula,
    PlainValidator(
        read_fusion,
        json_schema_input_type=Annotated[str, Field(min_length=1, max_length=LONGEST_FORMULA)] | InlineFormula,
    ),
]


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
    fusion: Fusion | None = None
    """Name of one of the model's score formulas, or a formula; the model's default one where it is not given."""
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Which model shall answer: ``champion``, ``challenger``, or a ``VERSION`` or ``NAME/VERSION`` of `/v1/models`;
    where it is not given, the one that the user's share of the traffic goes to."""
    explain: Annotated[bool, Field(strict=True)] = False
    """Whether to say why candidates have their scores; it takes a few times as long."""


class RankRequest(ScoreRequest):
    """A score request whose answer is put in order."""

    top_k: Annotated[int, Field(ge=1, strict=True)] | None = None
    """Number of candidates to return, the best ones; all where it is not given."""


class AnswerPart(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ModelName(AnswerPart):
    """Which model an answer comes from."""

    name: str
    """Name in the registry, or of the bundle's folder."""
    version: str
    """Version in the registry; of a bundle outside of it, a hash of its content."""


class Answering(ModelName):
    """The model that answered, and as what."""

    role: Role
    """``champion``, ``challenger``, or ``pinned``: asked for by its version."""


class FormulaName(AnswerPart):
    """Which formula an answer's scores come from."""

    name: str
    """Name in the model's ``fusion.yaml``."""
    version: int
    """The formula's version, as written there."""


class Baseline(AnswerPart):
    """What explanations compare candidates with."""

    objectives: dict[str, float]
    """By objective: its mean over the candidates of the request."""
    score: float
    """The formula's value where every candidate has those."""


class Explanation(AnswerPart):
    """Why a candidate has its score."""

    contributions: dict[str, float]
    """By objective: the candidate's score less what it would be if all candidates had the objective's mean. For sums
    they add up to the score less the baseline's."""
    gates: dict[str, dict[str, dict[str, float]]]
    """By gate of the model and by what reads it, such as a task: the weight of each expert."""


class ScoredCandidate(AnswerPart):
    """A candidate with everything that the model says of it."""

    item_id: int | str
    """As in the request."""
    objectives: dict[str, float]
    """By objective: the calibrated probability of an event, or an amount in its natural unit."""
    score: float
    """The objectives fused by the formula; higher is better."""
    explanation: Explanation | None = None
    """There if the request asks for it."""


class ScoreAnswer(AnswerPart):
    """Scores, and what they come from."""

    request_id: str
    """The request's ``X-Request-ID``, or one made for it."""
    model: Answering
    fusion: FormulaName | InlineFormula
    """The formula's name and version, or the one that the request brought along."""
    candidates: list[ScoredCandidate]
    """In the request's order for ``/v1/score``, best first for ``/v1/rank``; equal scores keep the request's order."""
    baseline: Baseline | None = None
    """What explanations compare with, if the request asks for them."""


class Objective(AnswerPart):
    """One thing that a model predicts."""

    name: str
    """Name of the task."""
    kind: str
    """``binary``: scores are probabilities; ``regression``: amounts."""
    unit: str | None
    """Of an amount."""
    space: str | None
    """The probability holds for impressions with this event: the chance of a like among those who click."""


class Input(AnswerPart):
    """One raw value that a model reads."""

    name: str
    """Name of the raw value in requests: the data set's column."""
    kind: str
    """``id``, ``ids`` (list), ``sequence`` (list, oldest first) or ``number``."""


class ModelDescription(AnswerPart):
    """A model that is being served."""

    name: str
    """Name in the registry, or of the bundle's folder."""
    version: str
    """Version in the registry; of a bundle outside of it, a hash of its content."""
    role: Role
    """``champion``, ``challenger`` or ``pinned``."""
    uri: str
    """Address that it was loaded from."""
    fingerprint: str
    """Of the feature specification: the same as that of the data sets it can be evaluated on."""
    golden_requests: int
    """Requests whose expected scores it reproduced before it was let in."""
    objectives: list[Objective]
    """What it predicts, in the order of its tasks."""
    inputs: dict[str, list[Input]]
    """Raw values by part of the request: ``user``, ``context`` and ``candidates``."""
    fusions: Fusions
