"""Networks that do not come to an end: bounded and reported, while others answer."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from convserve.app import Application
from convserve.repository import Repository
from convserve.settings import Settings
from tests.artifacts import IMAGE, SLOW, TEXT, build_image, build_text, picture, text_graph

pytestmark = pytest.mark.anyio
AT_IMAGE, AT_TEXT, CARD = (
    f"/v1/models/{IMAGE}/predict",
    f"/v1/models/{TEXT}/predict",
    f"/v1/models/{TEXT}",
)
ENDLESS = 2**62
GIANT = 6000  # the side of a product that takes a core seconds
PICTURE = picture(9, 9)


@pytest.fixture
def graph() -> bytes:
    return text_graph(rounds=ENDLESS)


@pytest.fixture
def limits() -> dict[str, float]:
    return {"run_seconds": 0.3, "grace_seconds": 20}


@pytest.fixture
def settings(tmp_path: Path, graph: bytes, limits: dict[str, float]) -> Settings:
    build_image(tmp_path)
    build_text(tmp_path, graph=graph)
    return Settings(store=tmp_path, cores=1, measure_seconds=0).model_copy(update=limits)


async def others_answer_until(client: httpx.AsyncClient, done: asyncio.Task[Any]) -> int:
    """Ask the other model all the while; return how often it answered."""
    answered = 0
    while not done.done():
        assert (await client.post(AT_IMAGE, content=PICTURE)).status_code == 200
        answered += 1
    return answered


async def state(client: httpx.AsyncClient) -> tuple[str, str | None]:
    card = (await client.get(CARD)).json()
    return card["state"], card["reason"]


async def test_an_endless_loop_is_stopped_while_others_answer(client: httpx.AsyncClient) -> None:
    endless = asyncio.create_task(client.post(AT_TEXT, json={"text": SLOW}))
    assert await others_answer_until(client, endless) > 1
    response = await endless
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert "stopped after a run of 0." in response.json()["detail"]
    assert await state(client) == ("ready", None)
    assert (await client.post(AT_TEXT, json={"text": "a"})).status_code == 200


class TestDeparted:
    @pytest.fixture
    def limits(self) -> dict[str, float]:
        return {"run_seconds": 600, "grace_seconds": 20}

    async def test_a_loop_that_nobody_waits_for_is_stopped(self, client: httpx.AsyncClient) -> None:
        hasty = {"X-Request-Timeout-Ms": "50"}
        response = await client.post(AT_TEXT, json={"text": SLOW}, headers=hasty)
        assert response.status_code == 504
        assert (await client.post(AT_TEXT, json={"text": "a"})).status_code == 200


class TestGiantKernel:
    @pytest.fixture
    def graph(self) -> bytes:
        return text_graph(rounds=0, side=GIANT)

    @pytest.fixture
    def limits(self) -> dict[str, float]:
        # Long enough to be in the product: a stop that comes earlier ends it.
        return {"run_seconds": 1.0, "grace_seconds": 0.1}

    async def test_it_is_answered_and_reported_while_others_answer(
        self, client: httpx.AsyncClient
    ) -> None:
        giant = asyncio.create_task(client.post(AT_TEXT, json={"text": SLOW}))
        assert await others_answer_until(client, giant) > 1
        assert giant.result().status_code == 504
        found, reason = await state(client)
        assert found == "failed"
        assert reason == "1 run(s) were told to stop and had not ended 0.1 s later"
        refused = await client.post(AT_TEXT, json={"text": "a"})
        assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
        assert str(reason) in refused.json()["detail"]
        assert (await client.get("/readyz")).status_code == 503
        while (await state(client))[0] == "failed":  # until the product is done
            assert (await client.post(AT_IMAGE, content=PICTURE)).status_code == 200
        assert (await client.post(AT_TEXT, json={"text": "a"})).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


class TestGolden:
    @pytest.fixture
    def graph(self) -> bytes:
        return text_graph(rounds=ENDLESS, slow="l")  # one that the goldens have

    async def test_a_golden_without_end_fails_the_model(
        self, app: Application, client: httpx.AsyncClient
    ) -> None:
        repository: Repository = app.repository
        entry = repository.entries.versions(TEXT)[0]
        assert entry.state == "failed"
        assert "a run did not end in 0.3 s" in str(entry.fault)
        assert (await client.post(AT_IMAGE, content=PICTURE)).status_code == 200
