"""What surrounds every request: its id, its timing, and no traceback."""

import asyncio
import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convserve.api import problems
from convserve.api.headers import header
from convserve.errors import Draining
from convserve.logs import request_id
from convserve.telemetry import Trace
from convserve.tracing import Facts, TimedTrace, Tracing

CLIENT_LEFT = 499  # told to nobody: only log and metrics see it
READING = {"GET", "HEAD"}  # probes ask until all is well: an answer of 503 is no failure
NO_SNIFFING = (b"x-content-type-options", b"nosniff")

logger = logging.getLogger(__name__)


class Ledger:
    """Opens a trace for every request, and reports what became of it: metrics, log and span."""

    def __init__(self, late_seconds: float, tracing: Tracing | None = None) -> None:
        self._late_seconds = late_seconds
        self._tracing = tracing
        self._new_trace = TimedTrace if tracing else Trace

    def open(self, scope: Scope) -> Trace:
        """Return the trace of a new request, its scope's too; it is to be entered."""
        trace = self._new_trace(request_id(header(scope, b"x-request-id")))
        scope["trace"] = trace
        return trace

    def report(self, scope: Scope, trace: Trace, status: int) -> None:
        """Count and tell a request that was answered with `status`."""
        seconds = trace.seconds
        if trace.metrics:
            trace.metrics.answered(status, seconds, trace.spans)
        late = trace.metrics is not None and seconds > self._late_seconds
        if late or status >= CLIENT_LEFT or logger.isEnabledFor(logging.DEBUG):
            self._tell(scope, trace, status, late)
        if self._tracing and isinstance(trace, TimedTrace):
            headers = {"traceparent": header(scope, b"traceparent") or ""}
            facts: Facts = {
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "http.response.status_code": status,
            }
            self._tracing.finished(trace, headers, facts)

    def _tell(self, scope: Scope, trace: Trace, status: int, late: bool) -> None:
        level, message = _verdict(scope["method"], status, late)
        if logger.isEnabledFor(level):
            what = {"method": scope["method"], "path": scope["path"], "status": status}
            logger.log(level, message, extra=what | trace.summary())


def _verdict(method: str, status: int, late: bool) -> tuple[int, str]:
    """Failed and late requests are told; refusals and usual answers only if all are."""
    if status == CLIENT_LEFT:
        return logging.INFO, "client left"
    if status >= 500 and method not in READING:
        return logging.WARNING, "failed"
    if late:
        return logging.WARNING, "late"
    return logging.DEBUG, "answered"


class Envelope:
    """Puts a request id, Server-Timing and the model's headers on every answer."""

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        self.app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self._ledger.open(scope) as trace:
            reply = _Reply(send, trace)
            await self._answer(scope, receive, reply)
            self._ledger.report(scope, trace, reply.status)

    async def _answer(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        try:
            await self.app(scope, receive, reply)
        except ClientDisconnect:
            reply.status = CLIENT_LEFT
        except asyncio.CancelledError:
            await _tell(scope, receive, reply, unfinished())
        except Exception as error:
            await _tell(scope, receive, reply, error)


def unfinished() -> Draining:
    """Return what to tell when the server takes back its tasks: its time to shut down is over."""
    return Draining("the service ended before it had an answer")


class _Reply:
    """Sends, with our headers on top; `status` is 0 until the answer begins."""

    def __init__(self, send: Send, trace: Trace) -> None:
        self._send = send
        self._trace = trace
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *headers(self._trace)]
        await self._send(message)


def headers(trace: Trace) -> list[tuple[bytes, bytes]]:
    """Return what every answer carries, whatever it is."""
    told = [
        (b"x-request-id", trace.request_id.encode()),
        (b"server-timing", trace.server_timing()),
        NO_SNIFFING,
    ]
    if trace.metrics:
        told += trace.metrics.headers
    if trace.batch_size:
        told.append((b"x-batch-size", b"%d" % trace.batch_size))
    return told


async def _tell(scope: Scope, receive: Receive, reply: _Reply, error: Exception) -> None:
    if reply.status:  # half of another answer is out
        raise error
    response = problems.respond(scope, error)
    await response(scope, receive, reply)
