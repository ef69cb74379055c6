"""The endpoints."""

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import WrapValidator

from serving.bodies import UnparsedRoute
from serving.errors import Problems
from serving.schemas import Health, Models, RankRequest, Readiness, ScoreAnswer, ScoreRequest
from serving.service import Service

REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problems, "description": "Something is wrong with the request; `loc` says where."},
    503: {"model": Problems, "description": "No model is ready; `/readyz` says why."},
}


def service_of(request: Request) -> Service:
    """Return the app's service."""
    return request.app.state.service  # type: ignore[no-any-return]


def request_id_of(request: Request) -> str:
    """Return the id that the middleware has given the request."""
    return str(request.state.request_id)


TheService = Annotated[Service, Depends(service_of)]
RequestId = Annotated[str, Depends(request_id_of)]
Kind = TypeVar("Kind")
Unparsed = Annotated[Kind, WrapValidator(lambda body, _: body)]
"""A body that is documented as what it must be, and arrives as bytes."""

router = APIRouter(route_class=UnparsedRoute)


@router.post("/v1/rank", response_model=ScoreAnswer, responses=REFUSALS, tags=["ranking"])
async def rank(request: Request, body: Unparsed[RankRequest], service: TheService, request_id: RequestId) -> Response:
    """Score the candidates and return them best first."""
    return await answered(request, body, RankRequest, service, request_id)


@router.post("/v1/score", response_model=ScoreAnswer, responses=REFUSALS, tags=["ranking"])
async def score(request: Request, body: Unparsed[ScoreRequest], service: TheService, request_id: RequestId) -> Response:
    """Score the candidates and return them in the order of the request."""
    return await answered(request, body, ScoreRequest, service, request_id)


async def answered(
    request: Request, body: object, kind: type[ScoreRequest], service: Service, request_id: str
) -> Response:
    """Answer a body of JSON with one."""
    if not isinstance(body, bytes) or not is_json(request.headers.get("content-type", "")):
        raise RequestValidationError([{"type": "model_type", "loc": ("body",), "msg": ""}])
    return Response(await service.answer(body, kind, request_id), media_type="application/json")


def is_json(content_type: str) -> bool:
    """Tell whether a header names JSON."""
    kind = content_type.partition(";")[0].strip().lower()
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
    readiness = service.lineup.readiness()
    response.status_code = 200 if readiness.status == "ready" else 503
    return readiness


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, tags=["operation"])
async def metrics(service: TheService) -> Response:
    """Give the metrics to Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
