"""OpenTelemetry traces of requests: the spans of Server-Timing, sent to a collector over OTLP/HTTP.

Off unless CONVSERVE_TRACES names a collector; only then is OpenTelemetry's SDK imported, which
`pip install 'convserve[otel]'` adds. The SDK's own variables (OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS …) hold.
"""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from time import perf_counter, time_ns
from typing import TYPE_CHECKING

from convserve.settings import InvalidSettings
from convserve.telemetry import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

PACKAGE = "opentelemetry.exporter.otlp.proto.http"
NANO = 10**9


class TimedTrace(Trace):
    """A Trace that also remembers when its spans ended."""

    __slots__ = ("ends",)

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.ends: dict[str, float] = {}

    def span(self, name: str, seconds: float) -> None:
        """Count a span that has just ended; of instances side by side the slowest counts."""
        if seconds >= self.spans.get(name, 0.0):
            self.ends[name] = perf_counter()
        super().span(name, seconds)

    def placed(self) -> Iterator[tuple[str, float, float]]:
        """Yield each span with its start and end, in seconds after the request came in."""
        ends = dict(self.ends)
        if {"queue", "inference"} <= ends.keys():  # both are told when the run is over
            ends["queue"] = ends["inference"] - self.spans["inference"]
        for name, end in ends.items():
            after = end - self.started
            yield name, max(0.0, after - self.spans[name]), after


class Tracing:
    """Sends a span tree for each request to the collector at `endpoint`.

    Raises InvalidSettings if OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        if not _installed():
            raise InvalidSettings("traces need OpenTelemetry: pip install 'convserve[otel]'")
        self._provider = _provider(endpoint)
        self._tracer = self._provider.get_tracer("convserve")

    def finished(self, trace: TimedTrace, headers: Mapping[str, str], facts: "Facts") -> None:
        """Tell of an answered request; a `traceparent` in its `headers` is its parent (W3C)."""
        from opentelemetry import trace as api  # noqa: PLC0415 - imported only when it is on
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        began = time_ns() - round(trace.seconds * NANO)
        parent = TraceContextTextMapPropagator().extract(headers)
        name = str(facts["http.request.method"])
        if trace.metrics:  # else the path is the caller's invention
            name += f" {facts['url.path']}"
        request = self._tracer.start_span(
            name, parent, api.SpanKind.SERVER, facts | _model(trace), start_time=began
        )
        if int(facts["http.response.status_code"]) >= 500:
            request.set_status(api.StatusCode.ERROR)
        inside = api.set_span_in_context(request)
        for part, start, end in trace.placed():
            span = self._tracer.start_span(part, inside, start_time=began + round(start * NANO))
            span.end(began + round(end * NANO))
        request.end()

    def close(self) -> None:
        """Send what is left; blocks."""
        self._provider.shutdown()


Facts = dict[str, str | int]
"""Attributes of a request's span, named by OpenTelemetry's semantic conventions."""


def _installed() -> bool:
    try:
        return find_spec(PACKAGE) is not None
    except ModuleNotFoundError:
        return False


def _provider(endpoint: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import (  # noqa: PLC0415
        SERVICE_NAME,
        OTELResourceDetector,
        Resource,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    named = Resource({SERVICE_NAME: "convserve"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return provider


def _model(trace: Trace) -> Facts:
    if not trace.metrics:
        return {"convserve.request_id": trace.request_id}
    return {
        "convserve.request_id": trace.request_id,
        "convserve.model": trace.metrics.model,
        "convserve.version": trace.metrics.version,
        "convserve.batch_size": trace.batch_size,
    }
