"""The endpoints."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST

from serving.errors import Problems
from serving.schemas import RankRequest, ScoreAnswer, ScoreRequest
from serving.service import Service
from serving.states import Health, Models, Readiness

REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"model": Problems, "description": "Something is wrong with the request; `loc` says where."},
    503: {"model": Problems, "description": "No model is ready; `/readyz` says why."},
}


class JSONRequest(Request):
    """Reads bodies with orjson: fast, and strict about what JSON is (no NaN, no infinity, no endless nesting)."""

    async def json(self) -> Any:
        """Parse the body."""
        return orjson.loads(await self.body())


class JSONRoute(APIRoute):
    """A route whose body is read by `JSONRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JSONRequest(request.scope, request.receive))

        return handle_json


def service_of(request: Request) -> Service:
    """Return the app's service."""
    return request.app.state.service  # type: ignore[no-any-return]


def request_id_of(request: Request) -> str:
    """Return the id that the middleware has given the request."""
    return str(request.state.request_id)


TheService = Annotated[Service, Depends(service_of)]
RequestId = Annotated[str, Depends(request_id_of)]

router = APIRouter(route_class=JSONRoute)


@router.post("/v1/rank", responses=REFUSALS, tags=["ranking"])
async def rank(body: RankRequest, service: TheService, request_id: RequestId) -> ScoreAnswer:
    """Score the candidates and return them best first."""
    return await service.answer(body, request_id, lambda scores: scores.ranking(body.top_k))


@router.post("/v1/score", responses=REFUSALS, tags=["ranking"])
async def score(body: ScoreRequest, service: TheService, request_id: RequestId) -> ScoreAnswer:
    """Score the candidates and return them in the order of the request."""
    return await service.answer(body, request_id, lambda scores: list(range(len(scores.item_ids))))


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
