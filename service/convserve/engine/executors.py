"""The threads that run batches."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

from convserve.engine.cores import Cores, Seat
from convserve.engine.cpu import give_way

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Job(Generic[T]):
    """Work for a thread, which must not raise, and its result for the event loop.

    A thread `began` it at a time of `monotonic`; it is `over` as soon as the thread is free again.
    A busy event loop hears of that only later, by the `result`.
    """

    work: Callable[[], T]
    result: asyncio.Future[T]
    began: float | None = None
    over: bool = False


class Executors:
    """Threads that are started when there is work for them; who came back last goes next.

    Its core still holds the network in its caches: threads that take turns find them cold. Jobs
    spread over the `cores`, and are given on the event loop's thread. The threads end with the
    process, whatever they do by then.
    """

    def __init__(self, name: str, cores: Cores) -> None:
        self._name = name
        self._cores = cores
        self._lock = Lock()
        self._idle: list[SimpleQueue[Job[Any] | None]] = []
        self._ahead: deque[Job[Any]] = deque()
        self._busy = 0
        self._closed = False

    def run(self, job: Job[Any]) -> None:
        """Begin a job on an idle thread, on a new one if there is none."""
        with self._lock:
            self._busy += 1
            entrance = self._idle.pop() if self._idle else None
        job.began = monotonic()
        (entrance or self._hire()).put(job)

    def run_next(self, job: Job[Any]) -> None:
        """Begin a job as soon as a thread is free, which does not wait for the event loop then.

        At once if one is idle, or if none is busy.
        """
        with self._lock:
            waits = self._busy and not self._idle
            if waits:
                self._ahead.append(job)
        if not waits:
            self.run(job)

    def close(self) -> list[Job[Any]]:
        """Let the threads go, the idle now, the others when their job is over.

        Returns the jobs that did not begin, and here never will.
        """
        with self._lock:
            self._closed = True
            left, self._ahead = [*self._ahead], deque()
            while self._idle:
                self._idle.pop().put(None)
        return left

    def _hire(self) -> SimpleQueue[Job[Any] | None]:
        entrance: SimpleQueue[Job[Any] | None] = SimpleQueue()
        Thread(target=self._serve, args=(entrance,), name=self._name, daemon=True).start()
        return entrance

    def _serve(self, entrance: SimpleQueue[Job[Any] | None]) -> None:
        give_way()
        seat = Seat(self._cores)
        job = entrance.get()
        while job is not None:
            with seat:
                result = job.work()
            ended, job = job, self._next(entrance)
            ended.over = True  # from here on there may be another job
            with suppress(RuntimeError):  # the event loop is closed: nobody waits
                ended.result.get_loop().call_soon_threadsafe(_settle, ended.result, result)
            del ended, result  # an idle thread keeps nothing alive
            if job is None and not self._closed:
                job = entrance.get()

    def _next(self, entrance: SimpleQueue[Job[Any] | None]) -> Job[Any] | None:
        """Return the job that begins next; None if there is none yet."""
        with self._lock:
            if self._ahead:
                job = self._ahead.popleft()
                job.began = monotonic()
                return job
            self._busy -= 1
            if not self._closed:
                self._idle.append(entrance)
            return None


def _settle(future: asyncio.Future[T], result: T) -> None:
    if not future.done():  # cancelled, maybe
        future.set_result(result)
