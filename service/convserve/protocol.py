"""HTTP as uvicorn speaks it, but what is written in one turn of the event loop leaves at once.

uvicorn writes an answer's head and body one by one, and uvloop hands each to the kernel as it
comes: two system calls, two packets, and a client that is woken for a head without a body.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, on a transport that gathers what is written."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a new client."""
        super().connection_made(cast(asyncio.Transport, Gathering(transport, self.loop)))


class Gathering:
    """A transport: what is written goes out in one piece when the event loop's turn ends."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
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
        if self._written and not self._transport.is_closing():
            self._transport.write(b"".join(self._written))
        self._written.clear()
