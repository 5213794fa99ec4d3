"""Clients that hang up: their work is taken out of the queue."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import Receive

# Most answers are quicker than this, even when many wait, and watching costs a task.
PATIENCE_SECONDS = 0.2


class abandoned_on_departure:  # noqa: N801 - reads as what it does
    """Cancels what runs inside the block once the client has left; raises ClientDisconnect then.

    The request's body must have been read.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self._departed = False

    def __enter__(self) -> None:
        """Begin to watch before long."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PATIENCE_SECONDS, self._begin)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Watch no more."""
        self._timer.cancel()
        if self._watching:
            self._watching.cancel()
        if self._departed and isinstance(error, asyncio.CancelledError):
            self._current().uncancel()
            raise ClientDisconnect from None

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._departed = True
        self._current().cancel()

    def _current(self) -> asyncio.Task[object]:
        assert self._task is not None
        return self._task
