"""Requests that together, or alone, would take more memory than they may."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from convserve.app import Application
from convserve.repository import Repository
from convserve.settings import Settings
from tests.artifacts import IMAGE, TEXT, picture

pytestmark = pytest.mark.anyio
AT_IMAGE, AT_TEXT = f"/v1/models/{IMAGE}/predict", f"/v1/models/{TEXT}/predict"
CAPACITY = 1_000_000
PICTURE = picture(300, 300, "JPEG")  # 360,000 bytes of pixels
MANY = {"instances": ["a" * 1000] * 20}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_in_flight_bytes": CAPACITY})


async def in_flight(client: httpx.AsyncClient) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    (line,) = [line for line in lines if line.startswith("convserve_in_flight_bytes ")]
    return float(line.split()[1])


def check_refusal(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["code"]) == (429, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    assert "memory" in response.json()["detail"]


async def test_what_others_hold_is_not_there(app: Application, client: httpx.AsyncClient) -> None:
    repository: Repository = app.repository
    with repository.memory.hold() as others:
        others.take(CAPACITY - 15_000)
        check_refusal(await client.post(AT_IMAGE, content=PICTURE))  # the body alone
        check_refusal(await client.post(AT_TEXT, json=MANY))
        assert (await client.post(AT_TEXT, json={"text": "a"})).status_code == 200
        metrics = (await client.get("/metrics")).text
        for model in (IMAGE, TEXT):
            refused = f'convserve_rejected_total{{model="{model}",reason="queue_full",version="1"}}'
            assert f"{refused} 1.0" in metrics
        assert await in_flight(client) == CAPACITY - 15_000
    assert (await client.post(AT_IMAGE, content=PICTURE)).status_code == 200
    assert await in_flight(client) == 0


@pytest.mark.parametrize("size", [(300, 300), (290, 310)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])  # the PNG is large even before it is decoded
async def test_pixels_count_before_they_are_unpacked(
    app: Application, client: httpx.AsyncClient, size: tuple[int, int], kind: str
) -> None:
    encoded = picture(*size, kind)
    repository: Repository = app.repository
    with repository.memory.hold() as others:
        others.take(CAPACITY - len(encoded) - 4 * size[0] * size[1] + 1)
        check_refusal(await client.post(AT_IMAGE, content=encoded))
    with repository.memory.hold() as others:
        others.take(CAPACITY - len(encoded) - 4 * size[0] * size[1])
        assert (await client.post(AT_IMAGE, content=encoded)).status_code == 200
    assert await in_flight(client) == 0


async def test_who_could_never_have_enough_is_told_so(client: httpx.AsyncClient) -> None:
    response = await client.post(AT_IMAGE, content=picture(600, 600, "JPEG"))
    assert (response.status_code, response.json()["code"]) == (413, "input_too_large")
    assert "all requests together may take 1,000,000" in response.json()["detail"]
    assert await in_flight(client) == 0


async def test_a_body_counts_while_it_comes_and_until_its_client_leaves(
    app: Application, client: httpx.AsyncClient
) -> None:
    came, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"a" * 700_000
        came.set()
        await go_on.wait()
        yield b"a" * 200_000

    plain = {"Content-Type": "text/plain"}
    upload = asyncio.create_task(client.post(AT_TEXT, content=slowly(), headers=plain))
    await came.wait()
    check_refusal(await client.post(AT_TEXT, content=b"a" * 400_000, headers=plain))
    upload.cancel()
    await asyncio.wait([upload])
    assert await in_flight(client) == 0


async def test_bad_requests_give_back_what_they_held(client: httpx.AsyncClient) -> None:
    for content in (b"", b"no image", PICTURE[:2000], b"\x89PNG" + b"x" * 100_000):
        assert (await client.post(AT_IMAGE, content=content)).status_code in {415, 422}
        assert await in_flight(client) == 0
