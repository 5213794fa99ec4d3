"""The page for those who come from TorchServe or Triton, as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.process import ROOT, Server, await_ready, serving
from tests.pages import CLIENTS, Block, assert_shown, blocks

SERVE, *ASK = blocks("migration.md")
OWN = [block for block in ASK if not block.code.startswith(CLIENTS)]
KEY = "0123456789abcdef"
FLOATS = {"CONVSERVE_PRECISION": "float"}


@pytest.fixture(scope="module")
def environment() -> Mapping[str, str]:
    """Our commands and the key as the page has them, and the graph that its figures are of."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "KEY": KEY, "no_proxy": "*", **FLOATS}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory like a checkout, for what the commands leave behind."""
    place = tmp_path_factory.mktemp("checkout")
    (place / "models").symlink_to(ROOT / "models")
    return place


@pytest.fixture(scope="module")
def server(place: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    command = ["bash", "-c", SERVE.code.replace("convserve serve", "exec convserve serve")]
    with serving(command, cwd=place, log=place / "log", environment=environment) as server:
        await_ready(server.client)
        yield server


@pytest.mark.parametrize("block", OWN, ids=lambda block: block.code.splitlines()[0][-60:])
def test_what_is_shown_comes_back(
    server: Server, place: Path, environment: Mapping[str, str], block: Block
) -> None:
    code = block.code.replace("127.0.0.1:8000", f"127.0.0.1:{server.client.base_url.port}")
    done = subprocess.run(
        ["bash", "-ec", code.replace("curl ", "curl --silent --show-error ")],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if block.shown:
        assert_shown(block.shown, done.stdout)


def test_the_metrics_that_it_names_exist(server: Server) -> None:
    told = server.client.get("/metrics").text
    page = (ROOT / "docs" / "migration.md").read_text()
    named = set(re.findall(r"\bconvserve_[a-z_]+", page))
    assert len(named) > 5
    assert {name for name in named if name not in told} == set()
