"""The load test against a running server: it measures, it reports, its thresholds bite."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import report
from loadtests.record import TOTAL
from tests.artifacts import AUDIO, CEPSTRA, IMAGE, TEXT, build_audio, build_cepstra, build_store
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


@pytest.fixture(scope="module")
def every_modality(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a default artifact of each modality that has users."""
    store = build_store(tmp_path_factory.mktemp("every") / "store")
    build_audio(store)
    build_cepstra(store)
    (store / "store.json").write_text(json.dumps({"default": [IMAGE, TEXT, AUDIO, CEPSTRA]}))
    return store


def test_it_measures_reports_and_judges(every_modality: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("convserve")), "serve"]
    environment = {"CONVSERVE_STORE": str(every_modality)}
    with serving(command, cwd=tmp_path, log=tmp_path / "log", environment=environment) as server:
        await_ready(server.client)
        assert load(server, every_modality, tmp_path, "--loop=closed", "--loads=4,8") == 0
        slow = ["--loop=open", "--loads=60", "--max-p99=0.001"]  # so many that chance asks all
        assert load(server, every_modality, tmp_path, *slow) == 1
    for loop in ("closed", "open"):
        for step in json.loads((tmp_path / f"{loop}.json").read_text())["steps"]:
            assert set(step["models"]) == {TOTAL, IMAGE, TEXT, AUDIO, CEPSTRA}
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
