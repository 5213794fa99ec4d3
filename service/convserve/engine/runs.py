"""The runs of one model, each bounded in time.

One that nobody waits for any more, or that takes too long, is told to stop. If it has not come back
some time later it is lost: a new executor takes its place. All of this on the event loop's thread.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from convserve.engine.cores import Cores
from convserve.engine.executors import Executors, Job
from convserve.engine.isolation import Stop

logger = logging.getLogger(__name__)


class Caller(Protocol):
    """What a run needs to know of those who wait for it."""

    def gone(self) -> bool:
        """Tell whether nobody wants the answer any more."""


C = TypeVar("C", bound=Caller)
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Batch(Generic[C, T]):
    """Those whose payloads are on an executor, or next on one.

    The run is expected to take `needed` seconds. `timer` is what happens if it has begun, and is
    not back by then.
    """

    callers: Sequence[C]
    job: Job[T]
    stop: Stop
    needed: float
    timer: asyncio.TimerHandle | None = None

    def wanted(self) -> bool:
        """Tell whether somebody waits for what the run returns."""
        return not all(caller.gone() for caller in self.callers)


class Runs(Generic[C, T]):
    """Runs on up to `executors` threads, over the `cores`; `ended` and `lost` are told of each.

    A run is told to stop after `run_seconds`, and lost if it is not back `grace_seconds` later.
    `ended` is called with the batch of one that came back, whose `job.result` is there, and with
    None when one that was lost does.
    """

    def __init__(
        self,
        name: str,
        cores: Cores,
        *,
        executors: int,
        run_seconds: float,
        grace_seconds: float,
        ended: Callable[[Batch[C, T] | None], None],
        lost: Callable[[Batch[C, T]], None],
    ) -> None:
        self.executors = executors
        self._name = name
        self._cores = cores
        self._run_seconds = run_seconds
        self._grace_seconds = grace_seconds
        self._tell_ended = ended
        self._tell_lost = lost
        self._running: dict[Job[T], Batch[C, T]] = {}
        self._lost: dict[Job[T], Batch[C, T]] = {}
        self._pool = self._new_pool()

    def __len__(self) -> int:
        """How many have begun, or will, and are not back; without the lost."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How many callers wait for an executor with their batch."""
        return sum(
            len(batch.callers) for batch in self._running.values() if batch.job.began is None
        )

    @property
    def fault(self) -> str | None:
        """Tell of the runs that did not end when they were told to, None if there are none."""
        if not self._lost:
            return None
        grace = f"{self._grace_seconds:g} s"
        return f"{len(self._lost)} run(s) were told to stop and had not ended {grace} later"

    def idle(self) -> int:
        """Return how many executors are free; less than 0 if batches wait for one."""
        # A run that is over leaves its executor idle, even if the loop has not got round to
        # `_finish` yet: it gets the next batch from whoever is admitted meanwhile, and all who
        # came back together share what waits. Executors are replaced once: more threads than
        # that are not given to a model that keeps them.
        idle = self.executors - max(0, len(self._lost) - self.executors)
        for job in self._running:
            if not job.over:
                idle -= 1
        return idle

    def sizes(self) -> list[int]:
        """Return how many callers each run has whose executor is not free."""
        return [len(batch.callers) for job, batch in self._running.items() if not job.over]

    def remaining_seconds(self) -> float:
        """Predict what is left of all runs together; one overdue is taken to be so once more."""
        now, seconds = monotonic(), 0.0
        for job, batch in self._running.items():
            if job.began is None:
                seconds += batch.needed
            elif not job.over:
                seconds += abs(batch.needed - (now - job.began))
        return seconds

    def begin(
        self,
        callers: Sequence[C],
        work: Callable[[], T],
        stop: Stop,
        needed: float,
        *,
        ahead: bool = False,
    ) -> Job[T]:
        """Begin `work` on an executor, which `stop` ends early.

        If it is `ahead` of time, as soon as an executor is free.
        """
        job = Job(work, self._loop.create_future())
        self._running[job] = Batch(callers, job, stop, needed)
        job.result.add_done_callback(partial(self._finish, job))
        if ahead:
            self._pool.run_next(job)
        else:
            self._pool.run(job)
        self._watch()
        return job

    def leave(self, job: Job[T]) -> None:
        """One of the callers of a run has left: it is stopped if nobody else waits for it."""
        if job in self._running and not self._running[job].wanted():
            self._stop(job)

    async def wait(self) -> None:
        """Wait until one of them is back, or lost."""
        results = [job.result for job in self._running]
        await asyncio.wait(results, timeout=self._grace_seconds, return_when="FIRST_COMPLETED")

    def close(self) -> list[C]:
        """Release the threads, stop what runs; return those whose run never begins."""
        left = [caller for job in self._pool.close() for caller in self._running.pop(job).callers]
        for job in self._running:
            self._stop(job)
        lost, self._lost = [*self._lost], {}
        for job in lost:  # they may come back when there is no event loop any more
            job.result.cancel()
        return left

    def _watch(self) -> None:
        """See to it that the runs which have begun end in time."""
        for job, batch in self._running.items():
            if job.began is not None and batch.timer is None:
                self._limit(batch)

    def _limit(self, batch: Batch[C, T]) -> None:
        loop = self._loop
        if batch.timer:
            batch.timer.cancel()
        if batch.stop.terminate:
            batch.timer = loop.call_later(self._grace_seconds, self._lose, batch.job)
        else:
            batch.timer = loop.call_later(self._run_seconds, self._stop, batch.job)

    def _stop(self, job: Job[T]) -> None:
        """Tell a run to end, and wait for it no longer than the grace period."""
        batch = self._running[job]
        if not batch.stop.terminate:
            batch.stop.terminate = True
            if batch.timer:
                self._limit(batch)

    def _lose(self, job: Job[T]) -> None:
        """Go on without a run that does not end, and without its executor."""
        batch = self._lost[job] = self._running.pop(job)
        logger.error("%s: %s; its executor is replaced", self._name, self.fault)
        left = self._pool.close()  # what else runs there comes back all the same
        self._pool = self._new_pool()
        for other in left:
            self._pool.run(other)
        self._watch()
        self._tell_lost(batch)

    def _finish(self, job: Job[T], _: asyncio.Future[Any]) -> None:
        if job in self._lost:
            del self._lost[job]
            logger.warning("%s: a lost run came back", self._name)
            self._tell_ended(None)
        elif batch := self._running.pop(job, None):
            if batch.timer:
                batch.timer.cancel()
            self._watch()
            self._tell_ended(batch)

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def _new_pool(self) -> Executors:
        return Executors(f"{self._name}-executor", self._cores)
