"""Clients that others wrote, in environments of their own, against a server as users have it."""

import base64
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.artifacts import IMAGE, IMAGE_LABELS, SIDE, build_echo, picture
from tests.conformance.clients import ENVIRONMENTS, FOREIGN, KEY, address, run
from tests.e2e.process import ROOT, STORE, Server, await_ready, serving
from tests.integration.conftest import command
from tests.pages import CLIENTS, assert_shown, blocks

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]


@pytest.fixture
def server(store: Path, tmp_path: Path) -> Iterator[Server]:
    """A server of every kind of model there is in tests/artifacts.py."""
    build_echo(store)
    settings = {
        "CONVSERVE_MANAGEMENT_KEYS": f"operator={KEY}",
        "CONVSERVE_LOG_LEVEL": "error",
    }
    log = tmp_path / "log"
    with serving(command(store), cwd=tmp_path, log=log, environment=settings) as server:
        await_ready(server.client)
        yield server


def test_tritonclient_and_the_five_ways_of_a_picture(server: Server, tmp_path: Path) -> None:
    encoded = picture(SIDE, SIDE)
    file, pixels = tmp_path / "picture.png", tmp_path / "pixels.npy"
    file.write_bytes(encoded)
    np.save(pixels, np.asarray(Image.open(io.BytesIO(encoded)))[None])
    python, script = ENVIRONMENTS / "tritonclient" / "bin" / "python", FOREIGN
    told = run(python, script / "triton_client.py", address(server), KEY, file, pixels)
    assert told.count("passed") == 5
    (scores,) = re.findall(r"^scores (.+)$", told, re.MULTILINE)
    by_tensors = {
        label: round(score, 6)
        for label, score in zip(IMAGE_LABELS, json.loads(scores), strict=True)
    }
    predict, media = f"/v1/models/{IMAGE}/predict", {"Content-Type": "image/png"}
    for answer in (
        server.client.post(predict, content=encoded, headers=media),
        server.client.post(predict, files={"image": encoded}),
        server.client.post(predict, json={"image": base64.b64encode(encoded).decode()}),
    ):
        top = answer.json()["predictions"][0]["top"]
        assert {entry["label"]: entry["probability"] for entry in top} == by_tensors


def perf_analyzer(*options: str) -> str:
    home = ENVIRONMENTS / "perf_analyzer"
    libraries = {path.parent for name in ("libb64*", "libcudart*") for path in home.rglob(name)}
    path = os.pathsep.join(map(str, libraries))
    return run(home / "bin" / "perf_analyzer", *options, LD_LIBRARY_PATH=path)


def test_perf_analyzer(server: Server) -> None:
    report = perf_analyzer(
        *("-m", IMAGE, "-u", address(server), "-i", "http", "-b", "2"),
        *("--concurrency-range", "2", "--request-count", "200"),
    )
    (rate,) = re.findall(r"^Concurrency: 2, throughput: ([0-9.]+) infer/sec", report, re.MULTILINE)
    assert float(rate) > 0


def test_the_migration_page_s_clients(tmp_path: Path) -> None:
    """What docs/migration.md has NVIDIA's clients ask of the models that we ship."""
    found = [block for block in blocks("migration.md") if block.code.startswith(CLIENTS)]
    (script,) = (block for block in found if block.language == "python")
    (analysis,) = (block for block in found if block.language == "sh")
    log = tmp_path / "log"
    floats = {"CONVSERVE_PRECISION": "float"}  # the page's figures
    with serving(command(STORE), cwd=ROOT, log=log, environment=floats) as server:
        await_ready(server.client)
        code, words = (
            block.code.replace("127.0.0.1:8000", address(server)) for block in (script, analysis)
        )
        told = run(ENVIRONMENTS / "tritonclient" / "bin" / "python", "-c", code)
        assert_shown(script.shown, told)
        assert "throughput:" in perf_analyzer(*words.split()[1:])
