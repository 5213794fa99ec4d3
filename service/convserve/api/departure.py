"""Clients that hang up: their work is taken out of the queue."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Receive

# Most answers are quicker than this, and watching costs a task.
PATIENCE_SECONDS = 0.05


class _Watch:
    """Cancels `task` when the client leaves."""

    def __init__(self, receive: Receive, task: asyncio.Task[object]) -> None:
        self._receive = receive
        self._task = task
        self._watching: asyncio.Task[None] | None = None
        self.departed = False

    def begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    def end(self) -> None:
        if self._watching:
            self._watching.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.departed = True
        self._task.cancel()


@contextmanager
def abandoned_on_departure(receive: Receive) -> Iterator[None]:
    """Cancel what runs inside once the client has left; raises ClientDisconnect then.

    The request's body must have been read.
    """
    task = asyncio.current_task()
    assert task is not None
    watch = _Watch(receive, task)
    timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, watch.begin)
    try:
        yield
    except asyncio.CancelledError:
        if not watch.departed:
            raise
        task.uncancel()
        raise ClientDisconnect from None
    finally:
        timer.cancel()
        watch.end()
