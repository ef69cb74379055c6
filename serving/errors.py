"""Errors in the shape of the API: ``{"detail": [{"loc": [...], "msg": ..., "type": ...}]}``."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

MOST_PROBLEMS = 20
"""Problems that one answer lists; a mistake in a thousand candidates need not be told a thousand times."""
LONGEST_MESSAGE, LONGEST_NAME = 500, 100


class Problem(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    loc: tuple[str | int, ...]
    """Where: ``["body", "candidates", 3, "duration"]``."""
    msg: str
    """The place again, and what is wrong there."""
    type: str
    """Word for programs."""


class Problems(BaseModel):
    """Body of every answer that is not 2xx, but for ``/readyz``."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    detail: list[Problem]
    """All that is wrong, not only the first."""


GUARDED: dict[int | str, dict[str, Any]] = {
    401: {"model": Problems, "description": "The service has API keys, and the request none that is valid."},
    403: {"model": Problems, "description": "The key is not for this."},
    408: {"model": Problems, "description": "The body did not arrive in time."},
    413: {"model": Problems, "description": "The body is too large."},
    415: {"model": Problems, "description": "The body is packed."},
    504: {"model": Problems, "description": "The service has not answered in time."},
}
"""What any request may be told before it comes to its endpoint."""


class RequestError(ValueError):
    """What is wrong with a request's body, as pairs of a place in it and a message."""

    def __init__(self, problems: Iterable[tuple[Sequence[str | int], str]]) -> None:
        self.problems = tuple((tuple(loc), msg) for loc, msg in problems)
        super().__init__("; ".join(f"{'.'.join(map(str, loc))}: {msg}" for loc, msg in self.problems))


class NotReady(Exception):
    """No model can answer yet, or any more."""


class Busy(Exception):
    """More requests wait than may."""


def answer(status: int, problems: Iterable[Problem], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make the response for ``problems``."""
    body = Problems(detail=list(problems)[:MOST_PROBLEMS])
    return JSONResponse(body.model_dump(mode="json"), status_code=status, headers=headers)


def problem(loc: Sequence[str | int], msg: str, kind: str) -> Problem:
    """Write the place into the message too, in the way that the command line does: ``path: message``."""
    place = tuple(part[:LONGEST_NAME] if isinstance(part, str) else part for part in loc)
    path = ".".join(str(part) for part in place[1:])
    text = f"{path}: {msg}" if path else msg
    return Problem(loc=place, msg=text[:LONGEST_MESSAGE], type=kind)


async def on_validation_error(_: Request, error: Exception) -> JSONResponse:
    """Answer 422 where the body does not have the shape of the request; its values are not repeated."""
    assert isinstance(error, RequestValidationError)
    return answer(422, (_described(detail) for detail in error.errors()))


async def on_request_error(_: Request, error: Exception) -> JSONResponse:
    """Answer 422 where the body asks for something that the model does not have or cannot read."""
    assert isinstance(error, RequestError)
    return answer(422, (problem(("body", *loc), msg, "value_error") for loc, msg in error.problems))


async def on_not_ready(_: Request, error: Exception) -> JSONResponse:
    """Answer 503 while there is no model."""
    return answer(503, [problem((), str(error), "not_ready")], {"Retry-After": "1"})


async def on_busy(_: Request, error: Exception) -> JSONResponse:
    """Answer 429 at once, while others wait for their turn."""
    return answer(429, [problem((), str(error), "busy")], {"Retry-After": "1"})


async def on_http_exception(_: Request, error: Exception) -> JSONResponse:
    """Give what the framework refuses, such as an unknown path, the same shape."""
    assert isinstance(error, HTTPException)
    return answer(error.status_code, [problem((), str(error.detail), "http_error")], error.headers)


def _described(detail: Mapping[str, Any]) -> Problem:
    loc, kind = detail["loc"], detail["type"]
    if kind == "json_invalid":
        return problem(("body",), f"not valid JSON: {detail['ctx']['error']} (at character {loc[-1]})", kind)
    if tuple(loc) == ("body",) and kind in {"model_attributes_type", "model_type", "dict_type"}:
        return problem(loc, "expected a JSON object, sent with Content-Type: application/json", kind)
    if kind == "extra_forbidden":
        return problem(loc, "unknown field", kind)
    message = str(detail["msg"]).removeprefix("Value error, ")
    return problem(loc, message[:1].lower() + message[1:], kind)
