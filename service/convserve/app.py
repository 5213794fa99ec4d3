"""The composition root: settings in, application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp

from convserve.api import problems, routes
from convserve.api.access import Access
from convserve.api.door import Door
from convserve.api.middleware import Envelope, Ledger
from convserve.repository import Repository
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from convserve.tracing import Tracing

ALLOWED = [
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "Content-Encoding",
    "X-Request-ID",
    "X-Request-Timeout-Ms",
    "Inference-Header-Content-Length",
    "traceparent",
]
EXPOSED = [
    "X-Request-ID",
    "Server-Timing",
    "Retry-After",
    "X-Model-Name",
    "X-Model-Version",
    "X-Batch-Size",
    "Inference-Header-Content-Length",
]


class Application(FastAPI):
    """FastAPI, behind our own routes, which need none of its layers, and with their document."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            title="convserve",
            openapi_url=None,
            redirect_slashes=False,
            lifespan=_lifespan,
            exception_handlers={HTTPException: problems.handle},
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        self.settings = settings
        self.telemetry = Telemetry(problems.PROBLEMS)
        self.tracing = Tracing(settings.traces) if settings.traces else None
        self.repository = Repository(settings, self.telemetry)
        self._access = Access(settings)
        self._ledger = Ledger(settings.late_ms / 1e3, self.tracing)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return routes.document()

    def build_middleware_stack(self) -> ASGIApp:
        """Return what answers: our routes, and FastAPI for what none of them matches."""
        own = Router(
            routes.routes(self._access),
            redirect_slashes=False,
            default=super().build_middleware_stack(),
            lifespan=self.router.lifespan_context,
        )
        return _cors(Envelope(own, self._ledger), self.settings)

    def door(self) -> Door:
        """Return what refuses before the application hears of a request, or lets in past it."""
        cors = bool(self.settings.cors_origins)
        return Door(self, self.repository, self._access, self._ledger, routes.ASKING, cors=cors)


def create_app(settings: Settings) -> Application:
    """Return the application; it loads the models when it starts and drains when it stops."""
    return Application(settings)


def _cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Outermost, so that errors carry its headers too; nothing unless it is asked for."""
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "PUT"],
        allow_headers=ALLOWED,
        expose_headers=EXPOSED,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    assert isinstance(app, Application)
    await app.repository.start()
    yield
    await app.repository.close()
    if app.tracing:
        await asyncio.to_thread(app.tracing.close)
