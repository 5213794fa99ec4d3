"""Dynamic batching: from admission to an answer, for payloads of any kind.

    submit ── admit ──► Waiting ── take ──► executor thread: run ──► Answer
                │          │                       │
                │          │                       └ raises: bisect, only the offender fails
                │          └ expired or departed: dropped, never run
                └ queue full, draining: refused

Work-conserving: whenever an executor is idle and somebody waits, a batch starts at once; while
batches run, the next one fills. Everything but `run` happens on the event loop's thread.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Generic, Protocol, TypeVar

from convserve.errors import ConvserveError, DeadlineExceeded, Draining, InferenceFailed, QueueFull

SMOOTHING = 0.2  # weight of the newest batch in the mean seconds per item

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Watches a batcher. Called on the event loop: be quick and do not raise."""

    def queue_depth(self, waiting: int) -> None:
        """So many wait now."""

    def batch_started(self, size: int) -> None:
        """A batch went to an executor."""

    def batch_finished(self, size: int, seconds: float) -> None:
        """A batch came back, after so many seconds in its executor."""

    def dropped(self, reason: str) -> None:
        """A payload ended without an answer: the code of its error, or "cancelled"."""


class _Nobody:
    """The Observer that watches nothing."""

    def queue_depth(self, waiting: int) -> None: ...
    def batch_started(self, size: int) -> None: ...
    def batch_finished(self, size: int, seconds: float) -> None: ...
    def dropped(self, reason: str) -> None: ...


class Entry(Protocol):
    """What the queue needs to know of those who wait."""

    @property
    def key(self) -> Hashable:
        """Only entries with equal keys share a batch."""

    def stale(self, now: float) -> bool:
        """Tell whether nobody wants the answer any more."""


P = TypeVar("P")
R = TypeVar("R")
E = TypeVar("E", bound=Entry)


class Waiting(Generic[E]):
    """Those who wait, first come first served, one lane per key. No clock, thread or loop."""

    def __init__(self, capacity: int, max_batch_size: int) -> None:
        if min(capacity, max_batch_size) < 1:
            raise ValueError("queue capacity and max batch size must be at least 1")
        self._capacity = capacity
        self._max_batch_size = max_batch_size
        self._arrivals = count()
        self._lanes: dict[Hashable, OrderedDict[E, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def admit(self, entry: E) -> bool:
        """Let `entry` wait, or return False because the queue is full."""
        if len(self) >= self._capacity:
            return False
        self._lanes.setdefault(entry.key, OrderedDict())[entry] = next(self._arrivals)
        return True

    def leave(self, entry: E) -> bool:
        """Forget `entry`; return whether it was still waiting."""
        lane = self._lanes.get(entry.key, OrderedDict())
        waited = lane.pop(entry, None) is not None
        if waited and not lane:
            del self._lanes[entry.key]
        return waited

    def take(self, now: float, idle: int) -> list[E]:
        """Return the next batch for one of `idle` executors; empty if nobody waits.

        It holds entries with the key of the oldest, and at most a fair share of all that wait:
        one executor must not swallow what would keep the others busy. The stale are dropped.
        """
        size = min(self._max_batch_size, math.ceil(len(self) / idle))
        while self._lanes:
            oldest = min(self._lanes, key=lambda key: next(iter(self._lanes[key].values())))
            if batch := self._pop(oldest, size, now):
                return batch
        return []

    def _pop(self, key: Hashable, size: int, now: float) -> list[E]:
        lane = self._lanes[key]
        batch: list[E] = []
        while lane and len(batch) < size:
            entry, _ = lane.popitem(last=False)
            if not entry.stale(now):
                batch.append(entry)
        if not lane:
            del self._lanes[key]
        return batch


Run = Callable[[Sequence[P]], Sequence[R | Exception]]


def run_isolated(run: Run[P, R], payloads: Sequence[P]) -> Sequence[R | Exception]:
    """Run a batch; if it raises, run its halves, until only the offenders have failed.

    Returns for each payload its row, or the exception in its place.
    """
    try:
        rows = run(payloads)
        if len(rows) != len(payloads):
            raise RuntimeError(f"{len(rows)} rows came back for {len(payloads)} payloads")
    except Exception as error:
        if len(payloads) == 1:
            return [error]
        half = len(payloads) // 2
        return [*run_isolated(run, payloads[:half]), *run_isolated(run, payloads[half:])]
    return rows


@dataclass(frozen=True, slots=True)
class Answer(Generic[R]):
    """What came back for one payload, and what it took (durations in seconds)."""

    value: R
    queue_seconds: float
    run_seconds: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class _Finished(Generic[R]):
    """What an executor hands back: a row or exception per payload, and when it ran."""

    rows: Sequence[R | Exception]
    started: float
    seconds: float


@dataclass(eq=False, slots=True)
class _Request(Generic[P, R]):
    payload: P
    key: Hashable
    deadline: float | None
    since: float
    answer: asyncio.Future[Answer[R]]

    def stale(self, now: float) -> bool:
        """Tell whether the deadline has passed or the submitter is gone."""
        return self.answer.done() or (self.deadline is not None and self.deadline <= now)


class Batcher(Generic[P, R]):
    """Joins the payloads of concurrent callers into batches and runs them on executor threads.

    `run` is called on an executor thread, at most `executors` times at once, with 1 to
    `max_batch_size` payloads of one key. It returns one row per payload, in order; an Exception
    in a row's place fails that payload alone. A batcher belongs to one event loop.
    """

    def __init__(
        self,
        run: Run[P, R],
        *,
        name: str,
        max_batch_size: int,
        queue_capacity: int,
        executors: int,
        observe: Observer | None = None,
    ) -> None:
        self._run = run
        self._name = name
        self._executors = executors
        self._observe: Observer = observe or _Nobody()
        self._waiting = Waiting[_Request[P, R]](queue_capacity, max_batch_size)
        self._running: dict[asyncio.Future[_Finished[R]], list[_Request[P, R]]] = {}
        self._pool = ThreadPoolExecutor(executors, thread_name_prefix=f"{name}-executor")
        self._seconds_per_item = 0.0
        self._draining = False

    async def submit(
        self, payload: P, *, key: Hashable = None, deadline: float | None = None
    ) -> Answer[R]:
        """Return the row of `payload`, which may share a batch with payloads of an equal key.

        `deadline` is absolute, in seconds of the loop's clock. Cancelling the caller withdraws
        the payload. Raises QueueFull and Draining at once, DeadlineExceeded at the deadline, and
        InferenceFailed if `run` failed on this payload (its own ConvserveErrors pass unchanged).
        """
        try:
            return await self._wait(self._admit(payload, key, deadline))
        except ConvserveError as error:
            self._observe.dropped(error.code)
            raise
        except asyncio.CancelledError:
            self._observe.dropped("cancelled")
            raise

    def backlog_seconds(self) -> float:
        """Estimate how long the accepted payloads will take; 0 until a run was measured."""
        items = len(self._waiting) + sum(map(len, self._running.values()))
        return items * self._seconds_per_item / self._executors

    async def drain(self) -> None:
        """Refuse the new, finish the accepted."""
        self._draining = True
        while self._running:  # work-conserving: nobody waits unless somebody runs
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Release the executor threads; those whom no `drain` let finish get Draining."""
        self._draining = True
        while batch := self._waiting.take(monotonic(), idle=1):
            for request in batch:
                request.answer.set_exception(self._refusal())
        self._pool.shutdown(wait=False)

    def _refusal(self) -> Draining:
        return Draining(f"{self._name} is draining; retry elsewhere", self.backlog_seconds())

    def _admit(self, payload: P, key: Hashable, deadline: float | None) -> _Request[P, R]:
        if self._draining:
            raise self._refusal()
        answer = asyncio.get_running_loop().create_future()
        request = _Request[P, R](payload, key, deadline, monotonic(), answer)
        if not self._waiting.admit(request):
            raise QueueFull(f"the queue of {self._name} is full", self.backlog_seconds())
        self._dispatch()
        return request

    async def _wait(self, request: _Request[P, R]) -> Answer[R]:
        try:
            async with asyncio.timeout_at(request.deadline):
                return await request.answer
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name} had no answer by the deadline") from None
        finally:
            if self._waiting.leave(request):
                self._observe.queue_depth(len(self._waiting))

    def _dispatch(self) -> None:
        """Start the one batch that one arrival, or one executor coming back, makes possible."""
        idle = self._idle()
        if idle and (batch := self._waiting.take(monotonic(), idle)):
            self._start(batch)
        self._observe.queue_depth(len(self._waiting))

    def _idle(self) -> int:
        # A run that is done leaves its executor idle, even if the loop has not got round to
        # `_finish` yet: all who came back together share what waits.
        return self._executors - sum(not running.done() for running in self._running)

    def _start(self, batch: list[_Request[P, R]]) -> None:
        payloads = [request.payload for request in batch]
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, self._execute, payloads)
        self._running[running] = batch
        running.add_done_callback(self._finish)
        self._observe.batch_started(len(batch))

    def _execute(self, payloads: Sequence[P]) -> _Finished[R]:
        started = monotonic()
        rows = run_isolated(self._run, payloads)
        return _Finished(rows, started, monotonic() - started)

    def _finish(self, running: asyncio.Future[_Finished[R]]) -> None:
        batch = self._running.pop(running)
        finished = running.result()
        self._learn(finished.seconds / len(batch))
        self._dispatch()  # first of all, so that the executor does not idle
        for request, row in zip(batch, finished.rows, strict=True):
            self._deliver(request, row, finished, len(batch))
        self._observe.batch_finished(len(batch), finished.seconds)

    def _learn(self, seconds: float) -> None:
        mean = self._seconds_per_item
        self._seconds_per_item = mean + SMOOTHING * (seconds - mean) if mean else seconds

    def _deliver(
        self, request: _Request[P, R], row: R | Exception, finished: _Finished[R], size: int
    ) -> None:
        outcome = self._failure(row) if isinstance(row, Exception) else row
        if request.answer.done():
            return
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            queue_seconds = finished.started - request.since
            request.answer.set_result(Answer(outcome, queue_seconds, finished.seconds, size))

    def _failure(self, error: Exception) -> ConvserveError:
        if isinstance(error, ConvserveError):
            return error
        logger.error("%s failed on one input", self._name, exc_info=error)
        return InferenceFailed(f"{self._name} failed on this input")
