"""What uvicorn's protocol does with the door, over sockets: refuse early, break nothing."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from convserve.app import Application
from convserve.errors import ConvserveError
from convserve.protocol import Protocol
from convserve.settings import Settings
from convserve.telemetry import Trace
from tests.artifacts import LENGTH, SLOW, TEXT

pytestmark = pytest.mark.anyio
PATH = f"/v1/models/{TEXT}/predict"
BODY = b'{"text": "Goal!"}'
ALIVE = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"
PRIVATE = {"request_id"}  # to each answer


def asking(*headers: str, path: str = PATH, body: bytes = BODY) -> bytes:
    """A request as it goes over the wire."""
    lines = f"POST {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *headers
    return "\r\n".join((*lines, "Content-Type: application/json", "", "")).encode() + body


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # What was never measured never waits on its executor, where it would leave room in the queue.
    tight = {"queue_capacity": 1, "max_batch_size": 1, "measure_seconds": 0}
    return settings.model_copy(update=tight)


@pytest.fixture
async def port(app: Application) -> AsyncIterator[int]:
    """Where the application listens, behind its door."""
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    state = ServerState()

    def made() -> Protocol:
        return Protocol(app.door(), config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        yield reader, writer
    writer.close()


async def until(client: httpx.AsyncClient, told: str) -> None:
    """Wait until the metrics tell so."""
    async with asyncio.timeout(10):
        while told not in (await client.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def full(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """While one runs and one waits, there is no room."""
    slow = [asyncio.create_task(client.post(PATH, json={"text": SLOW * LENGTH})) for _ in range(2)]
    await until(client, f'convserve_queue_depth{{model="{TEXT}",version="1"}} 1.0')
    yield
    assert [(await task).status_code for task in slow] == [200, 200]


async def answer(reader: asyncio.StreamReader) -> httpx.Response:
    """The next answer on a connection."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


def shared(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in PRIVATE}


@pytest.mark.parametrize("path", [PATH, f"/v2/models/{TEXT}/infer", f"/predictions/{TEXT}/1"])
async def test_the_refusal_is_the_one_that_the_application_gives(
    client: httpx.AsyncClient, port: int, path: str
) -> None:
    async with full(client), connected(port) as (reader, writer):
        writer.write(asking("X-Request-ID: mine", path=path))
        at_door = await answer(reader)
        within = await client.post(path, content=BODY, headers={"X-Request-ID": "mine"})
    assert at_door.status_code == within.status_code == 429
    assert at_door.json() == within.json()
    assert set(at_door.headers) - {"date"} == set(within.headers) - {"date"}
    assert at_door.headers["x-request-id"] == "mine"
    metrics = (await client.get("/metrics")).text
    labels = f'{{model="{TEXT}",status="429",version="1"}}'
    assert f"convserve_requests_total{labels} 2.0" in metrics
    assert 'convserve_errors_total{code="queue_full"} 2.0' in metrics


async def test_the_connection_stays_of_use(client: httpx.AsyncClient, port: int) -> None:
    async with full(client), connected(port) as (reader, writer):
        request = asking()
        writer.write(request[:-5])
        assert (await answer(reader)).status_code == 429
        writer.write(request[-5:] + ALIVE)  # the rest of the body belongs to nobody
        assert (await answer(reader)).json() == {"live": True}
        writer.write(request + ALIVE)
        assert [(await answer(reader)).status_code for _ in range(2)] == [429, 200]


async def test_who_wants_to_leave_may(client: httpx.AsyncClient, port: int) -> None:
    async with full(client), connected(port) as (reader, writer):
        writer.write(asking("Connection: close"))
        refusal = await answer(reader)
        assert (refusal.status_code, refusal.headers["connection"]) == (429, "close")
        assert await reader.read() == b""


async def test_nobody_works_for_who_has_left(client: httpx.AsyncClient, port: int) -> None:
    slow = b'{"text": "%s"}' % (SLOW * LENGTH).encode()
    async with connected(port) as (_, first), connected(port) as (_, second):
        for writer in (first, second):
            writer.write(asking(body=slow))
        await until(client, f'convserve_queue_depth{{model="{TEXT}",version="1"}} 1.0')
    for stage in ("queue", "inference"):
        labels = f'{{model="{TEXT}",stage="{stage}",version="1"}}'
        await until(client, f"convserve_cancelled_total{labels} 1.0")
    assert f'model="{TEXT}",status="499"' in (await client.get("/metrics")).text
    assert (await client.post(PATH, content=BODY)).status_code == 200


class Nowhere(asyncio.Transport):
    """A connection without another end."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


@pytest.mark.parametrize("turns", range(4))
async def test_whoever_leaves_at_once_leaves_nothing_behind(app: Application, turns: int) -> None:
    config, state = uvicorn.Config(app, log_config=None, ws="none"), ServerState()
    protocol = Protocol(app.door(), config=config, server_state=state, app_state={})
    protocol.connection_made(Nowhere())
    protocol.data_received(asking())
    assert len(state.tasks) == 1
    for _ in range(turns):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    async with asyncio.timeout(10):
        while state.tasks or state.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def garbage() -> Iterator[Callable[[], list[type]]]:
    """The kinds of what requests have left since then, in circles that nobody holds."""

    def found() -> list[type]:
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        kinds = Protocol, RequestResponseCycle, Trace, ConvserveError
        return [type(one) for one in gc.garbage if isinstance(one, kinds)]

    gc.collect()
    gc.disable()
    yield found
    gc.enable()
    gc.garbage.clear()


@pytest.mark.parametrize("kind", ["answered", "invalid", "late", "application's", "left"])
async def test_what_is_left_of_a_request_is_no_garbage(
    client: httpx.AsyncClient, port: int, garbage: Callable[[], list[type]], kind: str
) -> None:
    """To look for it under overload held all up for 70 ms."""
    slow = b'{"text": "%s"}' % (SLOW * LENGTH).encode()
    async with connected(port) as (reader, writer):
        if kind == "answered":
            writer.write(asking())
            assert (await answer(reader)).status_code == 200
        elif kind == "invalid":
            writer.write(asking(body=b'{"text": 5}'))
            assert (await answer(reader)).status_code == 422
        elif kind == "late":
            writer.write(asking("X-Request-Timeout-Ms: 20", body=slow))
            assert (await answer(reader)).status_code == 504
        elif kind == "application's":
            async with full(client):
                assert (await client.post(PATH, content=BODY)).status_code == 429
        else:
            writer.write(asking(body=slow) + asking())
            await asyncio.sleep(0.05)
    await until(client, "convserve_in_flight_bytes 0.0")
    await asyncio.sleep(0.1)  # the connection is closed in turns of their own
    assert garbage() == []


async def test_who_waits_to_be_told_is_told(port: int) -> None:
    async with connected(port) as (reader, writer):
        request = asking("Expect: 100-continue")
        writer.write(request.removesuffix(BODY))
        assert (await answer(reader)).status_code == 100
        writer.write(BODY)
        assert (await answer(reader)).status_code == 200


async def test_requests_in_a_row_are_answered_in_their_order(port: int) -> None:
    async with connected(port) as (reader, writer):
        writer.write(asking() + ALIVE + asking(path="/v1/models/none/predict") + asking())
        assert [(await answer(reader)).status_code for _ in range(4)] == [200, 200, 404, 200]


async def test_no_more_come_in_at_once_than_can_be_answered(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, model = app.door(), app.repository.at_hand(TEXT)
    assert door
    assert model
    monkeypatch.setattr(model.cost, "predict", lambda key, size: 0.04 * size)
    monkeypatch.setattr(model.cost, "worthwhile", lambda key, most, overhead: 1)

    def scope() -> Scope:
        headers = [(b"x-request-timeout-ms", b"120")]
        return {"type": "http", "method": "POST", "path": PATH, "root_path": "", "headers": headers}

    for _ in range(2):  # each turn of the event loop counts for itself
        found = [door(scope()) for _ in range(20)]
        # One runs, one waits for it: 80 ms, with caution 112, and the third would be late.
        assert [isinstance(one, tuple) for one in found] == [False] * 2 + [True] * 18
        await asyncio.sleep(0)
        await asyncio.sleep(0)


KEY = "0123456789abcdef"


class TestBehindKeys:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limits = {"inference_keys": f"app={KEY}", "cors_origins": "https://page.example"}
        return Settings(**settings.model_dump(exclude=set(limits)) | limits)

    async def test_keys_come_before_the_door(self, app: Application, port: int) -> None:
        right, wrong = (f"Authorization: Bearer {key}" for key in (KEY, KEY[::-1]))
        for headers, status in ([right], 200), ([wrong], 401), ([], 401):
            async with connected(port) as (reader, writer):
                writer.write(asking(*headers))
                assert (await answer(reader)).status_code == status

    async def test_a_full_queue_is_told_to_who_has_a_key(self, app: Application, port: int) -> None:
        transport, key = httpx.ASGITransport(app), {"X-API-Key": KEY}
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://here", headers=key) as client,
            full(client),
        ):
            for headers, status in ([f"X-API-Key: {KEY}"], 429), ([], 401):
                async with connected(port) as (reader, writer):
                    writer.write(asking(*headers))
                    assert (await answer(reader)).status_code == status

    async def test_a_page_elsewhere_is_told_that_it_may(self, port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(asking(f"X-API-Key: {KEY}", "Origin: https://page.example"))
            told = await answer(reader)
        assert told.headers["access-control-allow-origin"] == "https://page.example"
