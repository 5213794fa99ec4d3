"""The threads that run batches."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from convserve.engine.cpu import give_way

Work = Callable[[], Any]


class Executors:
    """Threads that are started when there is work for them; who came back last runs next.

    The core where it ran still holds the network in its caches: threads that take turns find
    them cold. They end with the process, whatever they do by then.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[SimpleQueue[tuple[Work, asyncio.Future[Any]] | None]] = []
        self._closed = False

    def run(self, work: Work) -> asyncio.Future[Any]:
        """Do `work`, which must not raise, on an idle thread, or on a new one if there is none.

        Called on the event loop's thread.
        """
        future = asyncio.get_running_loop().create_future()
        entrance = self._idle.pop() if self._idle else self._hire()
        entrance.put((work, future))
        return future

    def close(self) -> None:
        """Let the threads go: the idle now, the others when their work is done."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _hire(self) -> SimpleQueue[tuple[Work, asyncio.Future[Any]] | None]:
        entrance: SimpleQueue[tuple[Work, asyncio.Future[Any]] | None] = SimpleQueue()
        Thread(target=self._serve, args=(entrance,), name=self._name, daemon=True).start()
        return entrance

    def _serve(self, entrance: SimpleQueue[tuple[Work, asyncio.Future[Any]] | None]) -> None:
        give_way()
        while order := entrance.get():
            work, future = order
            result = work()
            self._idle.append(entrance)  # before anybody hears of it, who may have more work
            with suppress(RuntimeError):  # the loop is closed: nobody waits for it
                future.get_loop().call_soon_threadsafe(_settle, future, result)
            del order, work, future, result  # an idle thread keeps nothing alive
            if self._closed:
                return


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)
