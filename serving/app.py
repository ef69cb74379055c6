"""The HTTP API as one app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from serving import admin, errors, routes
from serving.loading import Load, load
from serving.middleware import Observe
from serving.service import Service
from serving.settings import Settings

DESCRIPTION = "Ranks candidates by several objectives at once. `GET /v1/models` lists what a request may carry."


def create_app(settings: Settings, load: Load = load) -> FastAPI:
    """Make the app. Once started it loads its models in the background, and says meanwhile that it is not ready."""
    return app_of(Service(settings, load))


def app_of(service: Service) -> FastAPI:
    """Make the app of a service, which is started with it unless it already is."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    app = FastAPI(title="recsys-mtl", description=DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    app.add_middleware(Observe, metrics=service.metrics)
    app.add_exception_handler(RequestValidationError, errors.on_validation_error)
    app.add_exception_handler(errors.RequestError, errors.on_request_error)
    app.add_exception_handler(errors.NotReady, errors.on_not_ready)
    app.add_exception_handler(HTTPException, errors.on_http_exception)
    app.include_router(routes.router)
    app.include_router(admin.router)
    return app
