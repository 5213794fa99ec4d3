"""Probes and metrics: is the process alive, may it be asked, how does it do."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from convserve.api.written import Written
from convserve.repository import Repository
from convserve.telemetry import Telemetry


async def live(request: Request) -> Response:
    """Answer at all: true while loading, overloaded or draining."""
    return Written(b'{"live":true}')


async def ready(request: Request) -> Response:
    """Answer 200 only if every required model is verified and the service is not draining."""
    repository: Repository = request.app.repository
    repository.check_ready()
    return Written(b'{"ready":true,"live":true}')


async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    telemetry: Telemetry = request.app.telemetry
    return Response(telemetry.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})
