"""HTTP as uvicorn speaks it, with a door, and what is written in one turn leaves at once.

The door refuses a request whose headers are read, or tells who is to answer it. For a refusal no
task is made, which would cost as much again; no whole answer is checked header by header. Whoever
was let in and leaves is not worked for any more.

uvicorn writes an answer's head and body one by one, and uvloop hands each to the kernel as it
comes: two system calls, two packets, and a client that is woken for a head without a body.
"""

import asyncio
import logging
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from convserve.api.door import Door, Room
from convserve.api.reading import WHOLE

logger = logging.getLogger(__name__)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, on a transport that gathers what is written, behind a `door`."""

    def __init__(self, door: Door | None = None, **given: Any) -> None:
        super().__init__(**given)
        self._door = door
        self._let_in: tuple[RequestResponseCycle, asyncio.Task[None]] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a new client."""
        super().connection_made(cast(asyncio.Transport, Gathering(transport, self.loop)))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        super().connection_lost(exc)
        if self._let_in:
            cycle, task = self._let_in
            cycle.disconnected = True  # uvicorn looks at the newest, which may be in the pipeline
            if not cycle.more_body:  # who waits for the body is told by uvicorn
                task.cancel()
                self.tasks.discard(task)  # one that has not begun never gets there itself
        # They know this connection: without circles nobody has to look for what is left of it.
        self.pipeline.clear()
        self.cycle = self._let_in = None  # type: ignore[assignment]  # as uvicorn begins

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # Who waits to be told to go on sends no body after another answer: uvicorn sees to them.
        scope: Any = cycle.scope
        door = None if cycle.waiting_for_100_continue else self._door
        found = door(scope) if door else None
        if found is None:
            super()._start_asgi_task(cycle, app)
        elif isinstance(found, tuple):
            self._answer(cycle, *found)
        else:
            task = self.loop.create_task(self._ask(cycle, found))
            self.tasks.add(task)
            self._let_in = cycle, task

    async def _ask(self, cycle: RequestResponseCycle, room: Room) -> None:
        """See to a request that was let in."""
        if not cycle.more_body:
            scope: Any = cycle.scope
            scope[WHOLE] = bytes(cycle.body)
        try:
            whole = await room(cycle)
            if cycle.flow.write_paused and not cycle.disconnected:
                await cycle.flow.drain()
            if whole and not cycle.disconnected:
                self._answer(cycle, *whole)
        except Exception:
            logger.exception("a request was left without an answer")
            self.transport.close()
        finally:
            self.tasks.discard(asyncio.current_task())

    def _answer(
        self,
        cycle: RequestResponseCycle,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """Write a whole answer; what is still to come of the body is dropped."""
        if not cycle.keep_alive:
            headers = [*headers, (b"connection", b"close")]
        lines = b"\r\n".join(map(b": ".join, (*cycle.default_headers, *headers)))
        self.transport.write(b"".join((STATUS_LINE[status], lines, b"\r\n\r\n", body)))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()


class Gathering:
    """A transport: what is written goes out in one piece when the event loop's turn ends."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closing = transport.is_closing
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write `data` before long."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        """Close the connection when all is written."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """Be the transport in all other respects."""
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._written and not self.is_closing():
            self._transport.write(b"".join(self._written))
        self._written.clear()
