import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from loadtests.generator import generator
from loadtests.samples import Sample
from loadtests.server import Server

SAMPLE = Sample("model", "1", "text/plain", b"asked", frozenset())


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    parts: tuple[bytes, ...]
    """Of the answer; more than one, and it is sent in chunks."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        if len(self.parts) == 1:
            self.send_header("Content-Length", str(len(self.parts[0])))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if len(self.parts) == 1:
            self.wfile.write(self.parts[0])
            return
        for part in (*self.parts, b""):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    handler = type("Handler", (Answering,), {"parts": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield Server(os.getpid(), listening.server_port, "/")
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "server",
    [(b"whole",), (b"x" * 40_000,), (b"in", b"parts"), (b"a" * 30_000, b"b" * 30_000)],
    indirect=True,
    ids=["short", "long", "short in chunks", "long in chunks"],
)
def test_every_answer_is_one(server: Server) -> None:
    """On connections that are kept: where an answer ends, the next one begins."""
    with generator(seconds=0.5, deadline=10_000) as load:
        found = load.loop(server, SAMPLE, users=2)
    assert found["ok"] > 2
    assert found["answered"] == found["ok"]
