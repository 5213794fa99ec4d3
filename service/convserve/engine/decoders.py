"""The threads for byte work that would hold up the event loop: decoding, and searching answers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import TypeVar

from convserve.engine.cpu import give_way
from convserve.errors import DeadlineExceeded, DeadlineUnmeetable, QueueFull

NICENESS = 5  # between the event loop and the executors: what is brief goes first
SMOOTHING = 0.1  # weight of the newest job in the mean
# What a prediction is multiplied by before a deadline is held against it. A core is taken away for
# some milliseconds now and then: with 1.2 whole batches missed deadlines of 100 ms.
CAUTION = 1.4

T = TypeVar("T")


class Decoders:
    """Threads that all models share, first come first served."""

    def __init__(self, threads: int) -> None:
        give = partial(give_way, NICENESS)
        self._pool = ThreadPoolExecutor(threads, "convserve-decode", initializer=give)
        self._threads = threads
        self._pending = 0.0

    @property
    def wait_seconds(self) -> float:
        """Predict how long one more job would wait for its turn."""
        return self._pending / self._threads

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """Return what `work` does on a thread, which is expected to take so many seconds."""
        self._pending += seconds
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._pending -= seconds

    def close(self) -> None:
        """Let the threads go when their work is done."""
        self._pool.shutdown()


class JobQueue:
    """One kind of work for the decoders: at most `capacity` jobs, whose mean time is learned."""

    def __init__(self, decoders: Decoders, capacity: int, name: str) -> None:
        self._decoders = decoders
        self._capacity = capacity
        self._name = name
        self._seconds = 0.0
        self.jobs = 0

    def needed(self) -> float:
        """Predict, with caution, the seconds until one more job would be done."""
        return CAUTION * (self._decoders.wait_seconds + self._seconds)

    def check(self, deadline: float) -> None:
        """Raise QueueFull or DeadlineUnmeetable for one more job; see `run`.

        Who finds no other job here is never refused: a wrong prediction is mended by a job.
        """
        self._check_room()
        if self.jobs and monotonic() + self.needed() > deadline:
            raise DeadlineUnmeetable(
                f"{self._name} would take {self.needed():.3f} s, past the deadline",
                self._decoders.wait_seconds,
            )

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Return what `work` does, by `deadline` (seconds of the loop's clock).

        Raises QueueFull at once, DeadlineExceeded at the deadline: what has not begun by then,
        or whose caller left, never begins.
        """
        self._check_room()
        self.jobs += 1
        try:
            async with asyncio.timeout_at(deadline):
                taken, result = await self._decoders.run(partial(_timed, work), self._seconds)
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name} were not done by the deadline") from None
        finally:
            self.jobs -= 1
        self._seconds += SMOOTHING * (taken - self._seconds) if self._seconds else taken
        return result

    def _check_room(self) -> None:
        if self.jobs >= self._capacity:
            raise QueueFull(f"{self.jobs} {self._name} are waiting or being worked on")


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = monotonic()
    result = work()
    return monotonic() - started, result
