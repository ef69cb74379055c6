"""The HTTP API as one app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from serving import errors
from serving.loading import Load, load
from serving.middleware import Observe
from serving.routes import router
from serving.service import Service
from serving.settings import Settings
from serving.store import routes as store_routes

DESCRIPTION = "Ranks candidates by several objectives at once. `GET /v1/models` lists what a request may carry."


def create_app(settings: Settings, load: Load = load) -> FastAPI:
    """Make the app. Once started it loads its model in the background, and says meanwhile that it is not ready."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(settings.intra_op_threads)
        # A stop does not wait for a download: the thread is left to end with the process.
        loading = asyncio.create_task(to_thread.run_sync(service.start, load, abandon_on_cancel=True))
        yield
        loading.cancel()
        if service.store is not None:
            await service.store.close()

    app = FastAPI(title="recsys-mtl", description=DESCRIPTION, lifespan=lifespan)
    app.state.service = service
    app.add_middleware(Observe, metrics=service.metrics)
    app.add_exception_handler(RequestValidationError, errors.on_validation_error)
    app.add_exception_handler(errors.RequestError, errors.on_request_error)
    app.add_exception_handler(errors.NotReady, errors.on_not_ready)
    app.add_exception_handler(HTTPException, errors.on_http_exception)
    app.include_router(router)
    app.include_router(store_routes.router)
    return app
