"""The composition root: settings in, application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from convserve.api import problems, routes
from convserve.api.access import Access
from convserve.api.middleware import BodyLimit, Envelope
from convserve.errors import ConvserveError
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
    """FastAPI with our raw routes and their document."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return routes.document()


def create_app(settings: Settings) -> FastAPI:
    """Return the application; it loads the models when it starts and drains when it stops."""
    tracing = Tracing(settings.traces) if settings.traces else None
    app = Application(
        title="convserve",
        openapi_url=None,
        redirect_slashes=False,
        routes=routes.routes(Access(settings)),
        lifespan=_lifespan,
        middleware=[
            *_cors(settings),
            Middleware(Envelope, late_seconds=settings.late_ms / 1e3, tracing=tracing),
            Middleware(BodyLimit, max_body_bytes=settings.max_body_bytes),
        ],
        exception_handlers={ConvserveError: problems.handle, HTTPException: problems.handle},
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.telemetry = Telemetry(problems.PROBLEMS)
    app.state.tracing = tracing
    app.state.repository = Repository(settings, app.state.telemetry)
    return app


def _cors(settings: Settings) -> list[Middleware]:
    """Outermost, so that errors carry its headers too; nothing unless it is asked for."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=ALLOWED,
            expose_headers=EXPOSED,
        )
    ]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    repository: Repository = app.state.repository
    await repository.start()
    yield
    await repository.close()
    tracing: Tracing | None = app.state.tracing
    if tracing:
        await asyncio.to_thread(tracing.close)
