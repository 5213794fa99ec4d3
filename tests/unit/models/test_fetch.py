"""Downloads, against a real server on loopback."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from convserve_models.data import FetchError
from convserve_models.data.fetch import Remote, fetch

CONTENT = bytes(range(256)) * 5000


class Origin(ThreadingHTTPServer):
    """Serves CONTENT; notes the ranges asked for; can hang up early or ignore ranges."""

    hang_up_after: int | None = None
    knows_ranges = True
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "bytes=0-")
        self.server.asked.append(wanted)
        if self.path != "/archive.bin":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if self.server.knows_ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if self.server.knows_ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.hang_up_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin(("127.0.0.1", 0), Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def remote(origin: Origin, content: bytes = CONTENT, name: str = "archive.bin") -> Remote:
    address = f"http://127.0.0.1:{origin.server_address[1]}/{name}"
    return Remote(address, hashlib.sha256(content).hexdigest())


def test_fetches_once(origin: Origin, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch(remote(origin), tmp_path / "new").read_bytes() == CONTENT
    assert len(origin.asked) == 1


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_resumes_after_a_broken_connection(
    origin: Origin, tmp_path: Path, knows_ranges: bool
) -> None:
    origin.hang_up_after = 100_000
    with pytest.raises(FetchError, match="run again"):
        fetch(remote(origin), tmp_path)
    origin.hang_up_after, origin.knows_ranges = None, knows_ranges
    assert fetch(remote(origin), tmp_path).read_bytes() == CONTENT
    assert origin.asked == ["bytes=0-", "bytes=100000-"]


def test_a_whole_part_is_taken(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "archive.bin.part").write_bytes(CONTENT)
    assert fetch(remote(origin), tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing_behind(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="SHA-256"):
        fetch(remote(origin, b"other"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_tells_the_status(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404"):
        fetch(remote(origin, name="gone.bin"), tmp_path)


def test_offline_tells_where_to_put_the_file(origin: Origin, tmp_path: Path) -> None:
    gone = remote(origin)
    origin.shutdown()
    origin.server_close()
    with pytest.raises(FetchError, match=str(tmp_path / "archive.bin")):
        fetch(gone, tmp_path)
