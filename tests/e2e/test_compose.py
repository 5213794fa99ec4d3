"""docker/compose.yaml, run as its first lines say.

IMAGE, LOCUST_IMAGE and PROMETHEUS_IMAGE name other images. Where the engine has no bridge,
DOCKER_NETWORK=host runs all on the host's network, on loopback.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.process import ROOT, STORE, free_port, goldens

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]
FILE = ROOT / "docker" / "compose.yaml"


@dataclass
class Project:
    """A Compose project; `ports` are where its services are reached on loopback."""

    files: list[Path]
    ports: dict[str, int]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, check: bool = True) -> str:
        """Run `docker compose` and return what it prints."""
        files = [word for file in self.files for word in ("--file", str(file))]
        done = subprocess.run(
            ["docker", "compose", "--ansi=never", *files, *words],
            env={**os.environ, "STORE": str(STORE), **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Yield the project; nothing of it is left behind."""
    ports = {"convserve": 8000, "prometheus": 9090}
    project = Project([FILE], ports)
    if os.environ.get("DOCKER_NETWORK") == "host":
        ports.update({name: free_port() for name in ports})
        project.files.append(on_the_host(tmp_path / "host.yaml", ports))
        project.environment["LOAD_HOST"] = f"http://127.0.0.1:{ports['convserve']}"
    try:
        yield project
    finally:
        project.run("--profile", "*", "down", "--volumes", "--timeout=60")


def on_the_host(file: Path, ports: dict[str, int]) -> Path:
    """Write what makes the services share the host's network, each at its port."""
    services = yaml.safe_load(FILE.read_text())["services"]
    changes: dict[str, dict[str, Any]] = {name: {"network_mode": "host"} for name in services}
    listen = {"CONVSERVE_HOST": "127.0.0.1", "CONVSERVE_PORT": str(ports["convserve"])}
    changes["convserve"]["environment"] = listen
    file.write_text(yaml.safe_dump({"services": changes}))
    return file


def test_the_load_profile_finishes_with_its_report(project: Project, tmp_path: Path) -> None:
    project.environment |= {"LOAD_USERS": "4", "LOAD_SECONDS": "6"}
    said = project.run("--profile=load", "up", "--no-build", "--exit-code-from=load")
    assert "| concurrent users | model | requests |" in said
    project.run("--profile=load", "cp", "load:/tmp/report/closed.json", str(tmp_path))
    report = json.loads((tmp_path / "closed.json").read_text())
    (step,) = report["steps"]
    assert step["models"].keys() == {"total"} | {golden.model for golden in goldens()}
    assert all(figures["requests"] > 0 for figures in step["models"].values())
    assert not any(figures["failures"] for figures in step["models"].values())


def test_a_missed_threshold_is_its_exit_status(project: Project) -> None:
    project.environment |= {"LOAD_USERS": "1", "LOAD_SECONDS": "4", "LOAD_MAX_P99": "0.001"}
    up = ["--profile=load", "up", "--no-build", "--exit-code-from=load"]
    with pytest.raises(AssertionError, match="threshold missed"):
        project.run(*up)
