"""A running `convserve serve`, as a user has it: a process, a port, HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtests.samples import Sample, read_store, said

ROOT = Path(__file__).parents[2]
STORE = ROOT / "models" / "store"
HUNG = 60
"""Seconds after which a server counts as hung."""


def goldens(store: Path = STORE) -> list[Sample]:
    """Return every golden of the latest version of the store's default artifacts."""
    return [sample for group in read_store(store, sys.maxsize).values() for sample in group]


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def await_ready(client: httpx.Client, seconds: float = HUNG) -> None:
    """Return once /readyz answers 200; raise `TimeoutError` if it does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{client.base_url} is not ready after {seconds} s")


def predicted(client: httpx.Client, golden: Sample) -> str:
    """Return the label or the transcript that the server gives to the golden's input."""
    answer = client.post(
        f"/v1/models/{golden.model}/predict",
        content=golden.body,
        headers={"Content-Type": golden.media_type},
    )
    assert answer.status_code == 200, answer.text
    return said(answer.json()["predictions"][0])


@dataclass
class Server:
    """A server process and a client of it."""

    process: subprocess.Popen[bytes]
    client: httpx.Client

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=HUNG)


@contextmanager
def serving(
    command: Sequence[str], *, cwd: Path, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run `command` on a free port until the block ends; the process is then gone."""
    port = free_port()
    env = {**os.environ, "CONVSERVE_PORT": str(port), **(environment or {})}
    with (
        log.open("wb") as output,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HUNG, trust_env=False) as client,
        subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output) as process,
    ):
        server = Server(process, client)
        try:
            yield server
        finally:
            if process.poll() is None:
                server.terminate()


def ask_many_times(client: httpx.Client, golden: Sample, instances: int) -> httpx.Response:
    """Send one request with the same input many times: it takes the server a while."""
    part = ("file", ("input", golden.body, golden.media_type))
    return client.post(f"/v1/models/{golden.model}/predict", files=[part] * instances)


def assert_graceful(client: httpx.Client, terminate: Callable[[], int]) -> None:
    """Assert that a request which runs when `terminate` is called is answered, and the status 0."""
    golden = max((g for g in goldens() if g.media_type == "image/jpeg"), key=lambda g: len(g.body))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask_many_times, client, golden, 24)
        time.sleep(0.3)
        assert not running.done(), "the request was over before the signal: it proves nothing"
        assert terminate() == 0
        answer = running.result(timeout=60)
    assert answer.status_code == 200, answer.text
    assert {said(p) for p in answer.json()["predictions"]} <= golden.answers
