"""`convserve serve` as a process, with the shipped store."""

import sys
from pathlib import Path

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
