"""Fifty reloads under Locust: nothing fails, and a corrupt version never answers."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.artifacts import TEXT
from tests.conformance.versions import FIRST_BAD, add, add_corrupt, remove
from tests.e2e.process import ROOT, await_ready, serving
from tests.integration.conftest import command

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]
KEY = "0123456789abcdef"
RELOADS, EVERY = 50, 5  # a corrupt version after every fifth
COUNTED_SECONDS = 1.5  # Locust writes what it counted once a second


@contextmanager
def locust(url: str, report: Path) -> Iterator[None]:
    """Ask all the while; Locust ends with 0 only if nothing failed."""
    file = ROOT / "tests" / "conformance" / "reloading.py"
    options = ["--headless", "--users=8", "--spawn-rate=8", "--only-summary", f"--csv={report}"]
    words = [sys.executable, "-m", "locust", "-f", str(file), "-H", url, *options]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield
            time.sleep(COUNTED_SECONDS)
        finally:
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told[-3000:]


def answering(client: httpx.Client) -> str:
    headers = {"Content-Type": "text/plain"}
    answer = client.post(f"/v1/models/{TEXT}/predict", content=b"goal", headers=headers)
    version: str = answer.json()["version"]
    return version


def await_requests(client: httpx.Client) -> None:
    """Return once Locust asks."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        (stats,) = client.get(f"/v2/models/{TEXT}/stats").json()["model_stats"]
        if stats["inference_count"] > 0:
            return
        time.sleep(0.1)
    raise TimeoutError("Locust asks nothing")


def reload(client: httpx.Client) -> int:
    path = f"/v2/repository/models/{TEXT}/load"
    return client.post(path, headers={"Authorization": f"Bearer {KEY}"}).status_code


def count(report: Path) -> tuple[int, int]:
    """Return how many requests there were, and how many of them failed."""
    with Path(f"{report}_stats.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["Name"] == "Aggregated"]
    return int(row["Request Count"]), int(row["Failure Count"])


def test_fifty_reloads_under_load_fail_no_request(store: Path, tmp_path: Path) -> None:
    settings = {
        "CONVSERVE_MANAGEMENT_KEYS": f"operator={KEY}",
        "CONVSERVE_POLL_SECONDS": "0.1",  # so that half-written directories are seen, too
    }
    log, report = tmp_path / "log", tmp_path / "locust"
    with serving(command(store), cwd=tmp_path, log=log, environment=settings) as server:
        await_ready(server.client)
        with locust(str(server.client.base_url), report):
            await_requests(server.client)
            for version in range(2, RELOADS + 2):
                add(store, version)
                assert reload(server.client) == 200
                assert answering(server.client) == str(version)
                if version % EVERY == 0:
                    corrupt = add_corrupt(store, version)
                    reload(server.client)
                    assert answering(server.client) == str(version)
                    states = server.client.get(f"/v1/models/{TEXT}").json()["versions"]
                    bad = next(s for s in states if s["version"] == str(FIRST_BAD + version))
                    assert bad["state"] == "failed"
                    remove(corrupt)
                if version > 3:
                    remove(store / TEXT / str(version - 2))
    asked, failed = count(report)
    print(f"{RELOADS} reloads, {asked} requests, {failed} failed")
    assert asked > RELOADS
    assert failed == 0
