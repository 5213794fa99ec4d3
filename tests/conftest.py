import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import hypothesis
import pytest

from convserve.app import Application, create_app
from convserve.settings import Settings
from tests.artifacts import build_store

# A busy machine is no failure: properties have no bar on wall time.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("CONVSERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CONVSERVE_CACHE", str(tmp_path / "cache"))  # nothing is left behind


@pytest.fixture(scope="session")
def pristine_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a tiny image and a tiny text artifact, never to be changed."""
    return build_store(tmp_path_factory.mktemp("pristine") / "store")


@pytest.fixture
def store(pristine_store: Path, tmp_path: Path) -> Path:
    """A copy of the store for a test to change."""
    return Path(shutil.copytree(pristine_store, tmp_path / "store"))


@pytest.fixture
def settings(pristine_store: Path) -> Settings:
    return Settings(store=pristine_store, cores=1)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    """The application, started and settled."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await app.repository.settled()
        yield app


@pytest.fixture
async def client(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
