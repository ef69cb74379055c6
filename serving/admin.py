"""Endpoints that change what the service does; who may use them is decided here, for all of them."""

import logging

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from recsys_mtl.config import ConfigError
from serving.bodies import JSONRoute
from serving.errors import Problems
from serving.routes import REFUSALS, TheService
from serving.traffic import Traffic

log = logging.getLogger(__name__)

UNWRITABLE = {"model": Problems, "description": "The change could not be written down."}

router = APIRouter(route_class=JSONRoute, tags=["administration"])


@router.get("/v1/traffic")
async def traffic(service: TheService) -> Traffic:
    """Say which share of the users the challenger answers, and whether it scores the others' requests unseen."""
    return service.switch.now()


@router.put("/v1/traffic", responses={422: REFUSALS[422], 503: UNWRITABLE})
async def set_traffic(body: Traffic, service: TheService) -> Traffic:
    """Change the traffic for every worker process, within a second, and for the starts to come."""
    try:
        await run_in_threadpool(service.switch.set, body)
    except ConfigError as error:
        log.error("the traffic cannot be changed: %s", error)
        raise HTTPException(503, "the service cannot write down its traffic; its log says why") from None
    return body
