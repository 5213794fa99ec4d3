"""The load test against a running server: it measures, it reports, its thresholds bite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import report
from tests.e2e.process import ROOT, Server, await_ready, serving


def load(server: Server, store: Path, directory: Path, *options: str) -> int:
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]
    paths = ["--store", str(store), "--report", str(directory)]
    steps = ["--host", str(server.client.base_url), "--seconds", "2", "--settle", "0.5"]
    done = subprocess.run(
        [*command, *paths, *steps, *options],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("LOAD_", "LOCUST_"))},
        capture_output=True,
        check=False,
    )
    return done.returncode


def test_it_measures_reports_and_judges(pristine_store: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("convserve")), "serve"]
    environment = {"CONVSERVE_STORE": str(pristine_store)}
    with serving(command, cwd=tmp_path, log=tmp_path / "log", environment=environment) as server:
        await_ready(server.client)
        assert load(server, pristine_store, tmp_path, "--loop=closed", "--loads=2,4") == 0
        slow = ["--loop=open", "--loads=20", "--max-p99=0.001"]
        assert load(server, pristine_store, tmp_path, *slow) == 1
    report.main(tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "Every threshold was met." in page
    assert "Thresholds missed:" in page
    assert (tmp_path / "closed.png").stat().st_size > 10_000
    assert (tmp_path / "open.png").exists()


def test_it_fails_when_no_server_answers(tmp_path: Path) -> None:
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "URL": "http://127.0.0.1:1",
        "STORE": str(tmp_path / "no store"),
        "LOAD_REPORT": str(tmp_path),
    }
    done = subprocess.run(
        [ROOT / "loadtests" / "run.sh"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no server answers at http://127.0.0.1:1" in done.stderr


def test_a_report_needs_measurements(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make load"):
        report.main(tmp_path)
