"""`convserve serve` as a process, with the shipped store."""

import sys
from pathlib import Path

import pytest

from tests.e2e.process import (
    STORE,
    assert_graceful,
    await_ready,
    goldens,
    predicted_label,
    serving,
)

COMMAND = [str(Path(sys.executable).with_name("convserve")), "serve", "--store", str(STORE)]


def test_it_reproduces_the_goldens_from_any_directory_and_stops_gracefully(tmp_path: Path) -> None:
    with serving(COMMAND, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        for golden in goldens():
            assert predicted_label(server.client, golden) == golden.label
        assert_graceful(server.client, server.terminate)


def test_it_writes_nothing_home_and_reports_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    with serving(COMMAND, cwd=tmp_path, log=tmp_path / "log") as server:
        await_ready(server.client)
        assert predicted_label(server.client, goldens()[0]) == goldens()[0].label
    assert list(home.rglob("*")) == []
