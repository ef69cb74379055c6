"""The careful way to read requests: every problem of the shape is found and said with its place."""

from typing import TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from serving.schemas import ScoreRequest

Kind = TypeVar("Kind", bound=ScoreRequest)


def read_carefully(body: bytes, kind: type[Kind]) -> Kind:
    """Parse a body as a request of a kind.

    Raises:
        RequestValidationError: it is not JSON, or does not have the shape of a request.
    """
    try:
        return kind.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        found = {"type": "json_invalid", "loc": ("body", error.pos), "ctx": {"error": error.msg}, "msg": ""}
        raise RequestValidationError([found]) from None
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**p, "loc": ("body", *p["loc"])} for p in problems]) from None
