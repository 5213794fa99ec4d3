import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import Server, await_ready, serving


def command(store: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "convserve.cli", "serve", "--store", str(store), *flags]


@pytest.fixture(scope="session")
def server(pristine_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server process that is ready; shared, so no test may stop it."""
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(command(pristine_store, "--max-pixels", "1000000"), cwd=log.parent, log=log) as it:
        await_ready(it.client)
        yield it
