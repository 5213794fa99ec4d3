"""Clients that hang up: their work is taken out of the queue."""

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive

from convserve.api.access import Handler

# Most answers are quicker than this, even when many wait, and watching costs a task.
PATIENCE_SECONDS = 0.2


def abandoned_on_departure(handler: Handler) -> Handler:
    """Return a handler that is cancelled once its client has left, and raises ClientDisconnect.

    The client is watched from when the handler has received the whole body.
    """

    async def answer(request: Request) -> Response:
        with _Watch(request.receive) as watch:
            return await handler(Request(request.scope, watch.receive))

    return answer


class _Watch:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.Task[None] | None = None
        self._departed = False

    def __enter__(self) -> "_Watch":
        self._task = asyncio.current_task()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._timer:
            self._timer.cancel()
        if self._watching:
            self._watching.cancel()
        if self._departed and isinstance(error, asyncio.CancelledError):
            self._current().uncancel()
            raise ClientDisconnect from None

    async def receive(self) -> Message:
        """Pass a message on."""
        message = await self._receive()
        if not message.get("more_body", False):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(PATIENCE_SECONDS, self._begin)
        return message

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
