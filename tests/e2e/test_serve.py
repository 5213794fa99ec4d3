"""`convserve serve` as a process, with the shipped store."""

import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from tests.e2e.process import (
    STORE,
    assert_graceful,
    await_ready,
    goldens,
    predicted,
    serving,
)

COMMAND = [str(Path(sys.executable).with_name("convserve")), "serve", "--store", str(STORE)]


def test_it_reproduces_the_goldens_from_any_directory_and_stops_gracefully(tmp_path: Path) -> None:
    with serving(COMMAND, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        for golden in goldens():
            assert predicted(server.client, golden) in golden.answers
        assert_graceful(server.client, server.terminate)


def test_it_writes_nothing_home_and_reports_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    with serving(COMMAND, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        assert predicted(server.client, goldens()[0]) in goldens()[0].answers
    assert list(home.rglob("*")) == []


def test_a_signal_under_load_fails_no_request(tmp_path: Path) -> None:
    """Sixteen clients ask without a pause, and stop when a balancer would: at ready 503."""
    golden = next(g for g in goldens() if g.media_type == "image/png")
    drain = {"CONVSERVE_DRAIN_SECONDS": "3"}
    with serving(COMMAND, cwd=tmp_path, log=tmp_path / "log", environment=drain) as server:
        await_ready(server.client)
        stopping = Event()

        def ask() -> list[int]:
            statuses = []
            with httpx.Client(base_url=server.client.base_url, timeout=60) as client:
                while not stopping.is_set():
                    statuses.append(
                        client.post(
                            f"/v1/models/{golden.model}/predict",
                            content=golden.body,
                            headers={"Content-Type": golden.media_type},
                        ).status_code
                    )
            return statuses

        with ThreadPoolExecutor(16) as pool:
            asking = [pool.submit(ask) for _ in range(16)]
            await_answers(server.client, 200)
            server.process.send_signal(signal.SIGTERM)
            while server.client.get("/readyz").status_code == 200:
                pass
            before = answers(server.client)
            await_answers(server.client, before + 20)  # it goes on answering meanwhile
            stopping.set()
            statuses = [status for future in asking for status in future.result()]
        assert server.process.wait(timeout=60) == 0
    assert len(statuses) > 200
    assert set(statuses) == {200}


def answers(client: httpx.Client) -> float:
    """Return how many requests the server has answered."""
    metrics = client.get("/metrics").text
    found = re.findall(r"^convserve_requests_total\{.*\} (\S+)$", metrics, re.MULTILINE)
    return sum(map(float, found))


def await_answers(client: httpx.Client, count: float, seconds: float = 60) -> None:
    """Return once the server has answered so many requests."""
    end = time.monotonic() + seconds
    while answers(client) < count:
        assert time.monotonic() < end, f"{count} answers did not come in {seconds} s"
