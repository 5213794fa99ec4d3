"""The threads that run batches."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from convserve.engine.cores import Cores, Seat
from convserve.engine.cpu import give_way

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Job(Generic[T]):
    """Work for a thread, which must not raise, and its result for the event loop.

    It is `over` as soon as the thread is free again. A busy event loop hears of that only later,
    by the `result`.
    """

    work: Callable[[], T]
    result: asyncio.Future[T]
    over: bool = False


class Executors:
    """Threads that are started when there is work for them; who came back last goes next.

    Its core still holds the network in its caches: threads that take turns find them cold. Jobs
    spread over the `cores`. The threads end with the process, whatever they do by then.
    """

    def __init__(self, name: str, cores: Cores) -> None:
        self._name = name
        self._cores = cores
        self._idle: list[SimpleQueue[Job[Any] | None]] = []
        self._closed = False

    def run(self, work: Callable[[], T]) -> Job[T]:
        """Begin `work` on an idle thread, on a new one if there is none; on the event loop's."""
        job = Job(work, asyncio.get_running_loop().create_future())
        entrance = self._idle.pop() if self._idle else self._hire()
        entrance.put(job)
        return job

    def close(self) -> None:
        """Let the threads go: the idle now, the others when their work is done."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)

    def _hire(self) -> SimpleQueue[Job[Any] | None]:
        entrance: SimpleQueue[Job[Any] | None] = SimpleQueue()
        Thread(target=self._serve, args=(entrance,), name=self._name, daemon=True).start()
        return entrance

    def _serve(self, entrance: SimpleQueue[Job[Any] | None]) -> None:
        give_way()
        seat = Seat(self._cores)
        while (job := entrance.get()) is not None:
            with seat:
                result = job.work()
            self._idle.append(entrance)
            job.over = True  # from here on there may be another job
            with suppress(RuntimeError):  # the event loop is closed: nobody waits
                job.result.get_loop().call_soon_threadsafe(_settle, job.result, result)
            del job, result  # an idle thread keeps nothing alive
            if self._closed:
                return


def _settle(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # cancelled, maybe
        future.set_result(result)
