"""The process: how it starts, how it ends, what it does for clients that leave."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.artifacts import LENGTH, SLOW, TEXT, build_image, build_text, text_graph
from tests.e2e.process import Server, await_ready, serving
from tests.integration.conftest import command

AT_TEXT = f"/v1/models/{TEXT}/predict"
SLOW_REQUEST = {"instances": [SLOW * LENGTH] * 4}
PATIENT = {"X-Request-Timeout-Ms": "60000"}


@pytest.fixture
def own_server(pristine_store: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone, on one core, with a second of drain."""
    flags = command(pristine_store, "--cores", "1", "--max-batch-size", "1")
    with serving(flags, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        yield server


def wait_for_metric(client: httpx.Client, pattern: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not re.search(pattern, client.get("/metrics").text):
        assert time.monotonic() < end, f"no {pattern} in the metrics"
        time.sleep(0.02)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_and_the_end_is_clean(
    own_server: Server, sent: signal.Signals, tmp_path: Path
) -> None:
    client = own_server.client
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.post, AT_TEXT, json=SLOW_REQUEST, headers=PATIENT)
        wait_for_metric(client, r"convserve_queue_depth\{.*\} 3\.0")
        own_server.process.send_signal(sent)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "draining")
        assert client.get("/livez").status_code == 200
        assert client.post(AT_TEXT, json={"text": "a"}, headers=PATIENT).status_code == 200
        assert running.result().status_code == 200
    assert own_server.process.wait(timeout=30) == 0
    with pytest.raises(httpx.ConnectError):
        client.get("/livez")
    out = (tmp_path / "log").read_text()
    assert re.search(r"^convserve is ready at http://127\.0\.0\.1:\d+$", out, re.MULTILINE)
    assert "Traceback" not in out


def test_a_second_signal_ends_the_drain(pristine_store: Path, tmp_path: Path) -> None:
    patient = command(pristine_store, "--drain-seconds", "600")
    with serving(patient, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        server.process.send_signal(signal.SIGTERM)
        assert server.client.get("/readyz").status_code == 503
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0


def test_the_end_is_clean_beside_a_run_that_does_not_end(tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    build_image(store)
    build_text(store, graph=text_graph(rounds=0, side=6000))  # a product that takes seconds
    limits = ["--run-seconds", "0.5", "--grace-seconds", "0.1", "--drain-seconds", "0"]
    with serving(command(store, "--cores", "1", *limits), cwd=tmp_path, log=log) as server:
        await_ready(server.client)
        assert server.client.post(AT_TEXT, json={"text": SLOW}).status_code == 504
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
    assert "its executor is replaced" in log.read_text()


def test_what_does_not_finish_in_time_is_told_so(pristine_store: Path, tmp_path: Path) -> None:
    limits = ["--drain-seconds", "0", "--shutdown-seconds", "1"]
    hasty = command(pristine_store, "--cores", "1", "--max-batch-size", "1", *limits)
    with serving(hasty, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        with ThreadPoolExecutor(1) as pool:
            many = {"instances": [SLOW * LENGTH] * 32}
            running = pool.submit(server.client.post, AT_TEXT, json=many)
            wait_for_metric(server.client, r"convserve_queue_depth\{.*\} [1-9]")
            server.process.send_signal(signal.SIGTERM)
            answer = running.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert server.process.wait(timeout=60) == 0


def test_who_leaves_is_taken_out_of_the_queue(own_server: Server) -> None:
    client = own_server.client
    host, port = str(client.base_url.host), client.base_url.port
    body = json.dumps(SLOW_REQUEST).encode()
    head = f"POST {AT_TEXT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, port or 80)) as leaving:
        leaving.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for_metric(client, r"convserve_queue_depth\{.*\} 3\.0")
    for stage, inputs in (("inference", 1), ("queue", 3)):
        labels = rf'model="{TEXT}",stage="{stage}",version="1"'
        wait_for_metric(client, rf"convserve_cancelled_total\{{{labels}\}} {inputs}\.0")
    wait_for_metric(client, rf'convserve_queue_depth\{{model="{TEXT}",version="1"\}} 0\.0')
    wait_for_metric(client, r'convserve_requests_total\{.*status="499".*\} 1\.0')
    assert client.post(AT_TEXT, json={"text": "a"}).status_code == 200


def test_an_explanation_ends_when_its_client_leaves(own_server: Server) -> None:
    client = own_server.client
    host, port = str(client.base_url.host), client.base_url.port
    body = " ".join(SLOW * 8 for _ in range(2)).encode()
    head = f"POST /v1/models/{TEXT}/explain HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
    with socket.create_connection((host, port or 80)) as leaving:
        leaving.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.1)
    wait_for_metric(client, rf'convserve_cancelled_total\{{model="{TEXT}",stage="\w+",.*\}} 1\.0')
    wait_for_metric(client, r'convserve_requests_total\{.*status="499".*\} 1\.0')
    assert client.post(AT_TEXT, json={"text": "a"}).status_code == 200


def test_who_leaves_within_the_body_harms_nobody(server: Server) -> None:
    host, port = str(server.client.base_url.host), server.client.base_url.port
    for sent in (b"", b"POST ", f"POST {AT_TEXT} HTTP/1.1\r\nContent-Length: 9\r\n\r\n{{".encode()):
        with socket.create_connection((host, port or 80)) as leaving:
            leaving.sendall(sent)
    assert server.client.post(AT_TEXT, json={"text": "a"}).status_code == 200


def test_a_port_in_use_is_an_error(server: Server, pristine_store: Path) -> None:
    taken = command(pristine_store, "--port", str(server.client.base_url.port))
    done = subprocess.run(taken, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "address already in use" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--store", "nowhere"], "the store nowhere is no directory; name one with --store"),
        (["--port", "x"], "port = 'x' (--port)"),
        (["--log-level", "loud"], "log_level = 'loud' (--log-level)"),
    ],
)
def test_wrong_settings_are_told_in_a_line(flags: list[str], words: str, tmp_path: Path) -> None:
    serve = [sys.executable, "-m", "convserve.cli", "serve", *flags]
    done = subprocess.run(
        serve, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_heavy_import() -> None:
    script = (
        "import sys; from convserve import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: print(sorted({'numpy', 'pydantic', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
