"""Traces, as a collector on the loopback receives them over OTLP/HTTP."""

import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from convserve.app import create_app
from convserve.settings import InvalidSettings, Settings
from tests.artifacts import TEXT

AT_TEXT = f"/v1/models/{TEXT}/predict"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Keeps every span that it is sent."""

    spans: list[Any]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector(("127.0.0.1", 0), Handler) as server:
        server.spans = []
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {
        entry.key: entry.value.string_value or entry.value.int_value for entry in span.attributes
    }


@pytest.mark.anyio
async def test_a_request_is_a_trace_with_the_spans_of_server_timing(
    pristine_store: Path, collector: Collector
) -> None:
    app = create_app(Settings(store=pristine_store, cores=1, traces=collector.endpoint))
    async with app.router.lifespan_context(app):
        await app.repository.settled()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            context = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            answer = await client.post(AT_TEXT, json={"text": "goal"}, headers=context)
            unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
            await client.post(AT_TEXT, json={"text": "goal"}, headers=unsampled)
            await client.post("/v1/models/none/predict", headers={"traceparent": "nonsense"})
    timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"]))
    total = float(timing.pop("total"))
    (request,) = (span for span in collector.spans if span.parent_span_id.hex() == PARENT)
    children = [span for span in collector.spans if span.parent_span_id == request.span_id]
    assert request.name == f"POST {AT_TEXT}"
    assert attributes(request)["convserve.model"] == TEXT
    assert attributes(request)["convserve.request_id"] == answer.headers["X-Request-ID"]
    assert {span.trace_id.hex() for span in (request, *children)} == {TRACE}
    assert {span.name for span in children} == timing.keys()
    for span in children:
        assert request.start_time_unix_nano <= span.start_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
        took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert took == pytest.approx(float(timing[span.name]), abs=0.002)
    assert (request.end_time_unix_nano - request.start_time_unix_nano) / 1e6 >= total
    (stranger,) = (span for span in collector.spans if not span.parent_span_id)
    assert stranger.name == "POST"
    assert attributes(stranger)["http.response.status_code"] == 404


def test_without_the_package_the_setting_is_refused(
    pristine_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convserve.tracing.find_spec", lambda name: None)
    with pytest.raises(InvalidSettings, match=r"pip install 'convserve\[otel\]'"):
        create_app(Settings(store=pristine_store, traces="http://127.0.0.1:1/v1/traces"))


def test_when_it_is_off_nothing_of_it_is_imported() -> None:
    code = (
        "import sys; from convserve.app import create_app; from convserve.settings import Settings;"
        "create_app(Settings());"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')"
        " or name.startswith('opentelemetry.exporter')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
