"""What is written in one turn of the event loop leaves in one piece."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from convserve.protocol import Gathering
from tests.unit.service.batching import on_a_loop


class Counting:
    """A real transport, and what it was given, piece by piece."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Gathering, Counting, asyncio.StreamReader]]:
    """A connection over the loopback interface: the server's side, and the client's."""
    made = asyncio.get_running_loop().create_future()

    class Side(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set_result(transport)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Side, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    counting = Counting(await made)
    yield Gathering(counting, loop), counting, reader  # type: ignore[arg-type]
    counting.transport.close()
    writer.close()
    server.close()


@on_a_loop
async def test_one_turn_is_one_piece_and_the_next_another() -> None:
    async with connected() as (transport, counting, reader):
        transport.write(b"head")
        transport.write(b"body")
        assert counting.pieces == []
        assert await reader.readexactly(8) == b"headbody"
        transport.write(b"more")
        assert await reader.readexactly(4) == b"more"
        assert counting.pieces == [b"headbody", b"more"]


@on_a_loop
async def test_what_was_written_before_closing_arrives() -> None:
    async with connected() as (transport, counting, reader):
        transport.write(b"last ")
        transport.write(b"words")
        transport.close()
        assert await reader.read() == b"last words"
        assert counting.pieces == [b"last words"]


@on_a_loop
async def test_nothing_is_written_to_a_connection_that_broke_meanwhile() -> None:
    async with connected() as (transport, counting, reader):
        transport.write(b"too late")
        counting.transport.abort()
        assert await reader.read() == b""
        assert counting.pieces == []


@pytest.mark.parametrize("name", ["is_closing", "get_extra_info", "pause_reading"])
def test_otherwise_it_is_the_transport(name: str) -> None:
    transport = asyncio.Transport()
    loop = asyncio.new_event_loop()
    assert getattr(Gathering(transport, loop), name) == getattr(transport, name)
    loop.close()
