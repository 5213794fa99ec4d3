"""Programs that others wrote, each in an environment of its own under .venv."""

import os
import subprocess
from pathlib import Path

from tests.e2e.process import ROOT, Server

ENVIRONMENTS = ROOT / ".venv"
KEY = "0123456789abcdef"
FOREIGN = Path(__file__).parent / "foreign"


def address(server: Server) -> str:
    return f"127.0.0.1:{server.client.base_url.port}"


def run(*words: object, cwd: Path = ROOT, **environment: str) -> str:
    """Run a client; it must end with 0."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-6000:]
    return done.stdout
