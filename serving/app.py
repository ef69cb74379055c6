"""The HTTP API as one app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from serving import admin, errors, routes
from serving.gate import Gate
from serving.limits import Limits
from serving.loading import Load, load
from serving.middleware import Observe
from serving.request_log import RequestLog
from serving.security import describe_keys
from serving.service import Service
from serving.settings import Settings
from serving.store import routes as store_routes

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
        if service.store is not None:
            await service.store.close()

    app = FastAPI(title="recsys-mtl", description=DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    guard(app, service)
    app.add_exception_handler(RequestValidationError, errors.on_validation_error)
    app.add_exception_handler(errors.RequestError, errors.on_request_error)
    app.add_exception_handler(errors.Busy, errors.on_busy)
    app.add_exception_handler(errors.NotReady, errors.on_not_ready)
    app.add_exception_handler(HTTPException, errors.on_http_exception)
    app.include_router(routes.router, responses=errors.GUARDED)
    app.include_router(admin.router, responses=errors.GUARDED)
    app.include_router(store_routes.router, responses=errors.GUARDED)
    return app


def guard(app: FastAPI, service: Service) -> None:
    """Put around the endpoints what every request passes; what is added last is the first that it meets."""
    settings, log = service.settings, RequestLog(service.settings)
    app.add_middleware(Limits, settings=settings, log=log)
    if not service.keyring.is_open:
        describe_keys(app)
        registry = service.metrics.registry
        app.add_middleware(Gate, keyring=service.keyring, registry=registry, protect_metrics=settings.protect_metrics)
    app.add_middleware(Observe, service=service, log=log)
