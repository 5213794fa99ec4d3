"""Clients that others wrote, in environments of their own, against a server as users have it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import build_echo, picture
from tests.e2e.process import ROOT, STORE, Server, await_ready, serving

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(3600)]
HERE = Path(__file__).parent
CLIENTS = ROOT / ".venv" / "conformance" / "bin"
PERF = ROOT / ".venv" / "perf"
KEY = "0123456789abcdef"
EXAMPLES = os.environ.get("EXAMPLES", "200")


@pytest.fixture
def echoing(store: Path, tmp_path: Path) -> Iterator[Server]:
    build_echo(store)
    command = [sys.executable, "-m", "convserve.cli", "serve", "--store", str(store)]
    keys = {"CONVSERVE_MANAGEMENT_KEYS": f"operator={KEY}"}
    with serving(command, cwd=tmp_path, log=tmp_path / "log", environment=keys) as server:
        await_ready(server.client)
        yield server


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "convserve.cli", "serve", "--store", str(STORE)]
    keys = {"CONVSERVE_MANAGEMENT_KEYS": f"operator={KEY}"}
    with serving(command, cwd=tmp_path, log=tmp_path / "log", environment=keys) as server:
        await_ready(server.client)
        yield server


def address(server: Server) -> str:
    return f"127.0.0.1:{server.client.base_url.port}"


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment, "PYTHONPATH": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


def test_tritonclient(echoing: Server, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(picture(30, 20))
    script = HERE / "triton_client.py"
    passed = run(CLIENTS / "python", script, address(echoing), KEY, tmp_path / "picture.png")
    assert passed.count("passed") == 5


def test_perf_analyzer(shipped: Server) -> None:
    libraries = [str(path.parent) for path in PERF.rglob("lib*.so*") if path.is_file()]
    report = run(
        PERF / "bin" / "perf_analyzer",
        *("-m", "all_cnn_cifar10", "-u", address(shipped), "-i", "http", "-b", "2"),
        *("--concurrency-range", "2", "--request-count", "200"),
        LD_LIBRARY_PATH=":".join(sorted(set(libraries))),
    )
    (rate,) = re.findall(r"^Concurrency: 2, throughput: ([0-9.]+) infer/sec", report, re.MULTILINE)
    assert float(rate) > 0


def test_schemathesis(shipped: Server) -> None:
    report = run(
        CLIENTS / "schemathesis",
        *("--config-file", HERE / "schemathesis.toml", "run"),
        f"http://{address(shipped)}/openapi.json",
        *("--checks", "all", "--phases", "examples,coverage,fuzzing", "-n", EXAMPLES, "--warnings", "off"),
        SCHEMATHESIS_HOOKS="tests.conformance.hooks",
        IMAGE_MODEL="all_cnn_cifar10",
        TEXT_MODEL="char_cnn_ag_news",
    )
    assert "Test cases:" in report
