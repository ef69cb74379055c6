"""The endpoints."""

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import WrapValidator

from serving import arrow
from serving.bodies import UnparsedRoute
from serving.errors import Problems
from serving.reader import Body
from serving.request_log import Note, note_of
from serving.schemas import RankRequest, ScoreAnswer, ScoreRequest
from serving.service import Service
from serving.states import Health, Models, Readiness

REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problems, "description": "Something is wrong with the request; `loc` says where."},
    503: {"model": Problems, "description": "No model is ready; `/readyz` says why."},
}
STREAM: dict[str, Any] = {arrow.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
BUSY: dict[int | str, dict[str, Any]] = {
    429: {"model": Problems, "description": "Too many requests wait already; try again after `Retry-After`."}
}
ANSWERS = {
    **REFUSALS,
    **BUSY,
    200: {"content": STREAM, "description": "Scores; as a stream where the client accepts one."},
}
BODIES = {"requestBody": {"content": STREAM}}
"""An Arrow stream is taken and given beside JSON."""


async def service_of(request: Request) -> Service:  # FastAPI sends what is not async to a thread and back
    """Return the app's service."""
    return request.app.state.service  # type: ignore[no-any-return]


async def note_on(request: Request) -> Note:
    """Return what is known of the request."""
    return note_of(request.scope)


TheService = Annotated[Service, Depends(service_of)]
TheNote = Annotated[Note, Depends(note_on)]
Kind = TypeVar("Kind")
Unparsed = Annotated[Kind, WrapValidator(lambda body, _: body)]
"""A body that is documented as what it must be, and arrives as bytes."""

router = APIRouter(route_class=UnparsedRoute)


@router.post("/v1/rank", response_model=ScoreAnswer, responses=ANSWERS, openapi_extra=BODIES, tags=["ranking"])
async def rank(request: Request, body: Unparsed[RankRequest], service: TheService, note: TheNote) -> Response:
    """Score the candidates and return them best first."""
    return await answered(request, body, RankRequest, service, note)


@router.post("/v1/score", response_model=ScoreAnswer, responses=ANSWERS, openapi_extra=BODIES, tags=["ranking"])
async def score(request: Request, body: Unparsed[ScoreRequest], service: TheService, note: TheNote) -> Response:
    """Score the candidates and return them in the order of the request."""
    return await answered(request, body, ScoreRequest, service, note)


async def answered(request: Request, body: object, kind: type[ScoreRequest], service: Service, note: Note) -> Response:
    """Answer JSON or an Arrow stream with what the client accepts: JSON, unless it asks for a stream."""
    content_type, accepted = (request.headers.get(name, "") for name in ("content-type", "accept"))
    is_arrow, wants_arrow = media_type(content_type) == arrow.MEDIA_TYPE, arrow.MEDIA_TYPE in accepted
    if not isinstance(body, bytes) or not (is_arrow or is_json(content_type)):
        raise RequestValidationError([{"type": "model_type", "loc": ("body",), "msg": ""}])
    answer = await service.answer(Body(body, kind, is_arrow), note, arrow=wants_arrow)
    return Response(answer, media_type=arrow.MEDIA_TYPE if wants_arrow else "application/json")


def media_type(content_type: str) -> str:
    """Return a header's media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Tell whether a header names JSON."""
    kind = media_type(content_type)
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


@router.get("/v1/models", tags=["ranking"])
async def models(service: TheService) -> Models:
    """Describe the models that answer (objectives, inputs and formulas) and how it stands with every address."""
    return service.lineup.models()


@router.get("/healthz", tags=["operation"])
async def healthz() -> Health:
    """Tell that the process is alive."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready."}}, tags=["operation"])
async def readyz(service: TheService, response: Response) -> Readiness:
    """Tell whether a model can answer, and if not, why."""
    readiness = service.readiness()
    response.status_code = 200 if readiness.status == "ready" else 503
    return readiness


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["operation"])
async def metrics(service: TheService) -> Response:
    """Give the metrics to Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
