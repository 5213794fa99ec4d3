"""Dynamic batching: from admission to an answer, for payloads of any kind.

    submit ── admit ──► Waiting ── take ──► executor thread: run ──► Answer
                │          │                       │
                │          │                       ├ raises: bisect, only the offender fails
                │          │                       └ nobody left, or too long: stopped, or lost
                │          └ expired, departed, hopelessly late: dropped, never run
                └ queue full, deadline out of reach, draining: refused

Work-conserving: whenever an executor is idle and somebody waits, a batch starts at once; while
batches run, the next one fills. One that is full and brief waits behind them already, so that no
executor has to wait for a busy event loop. Everything but `run` happens on the event loop's thread.
So does a run of a few that takes less than handing it over: it starts when the turn of the event
loop ends, with all who came in that turn.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from time import monotonic
from typing import Generic, Protocol, TypeVar

from convserve.engine.admission import Admission
from convserve.engine.cores import Cores
from convserve.engine.executors import Job
from convserve.engine.forecast import Cost, Forecast
from convserve.engine.isolation import Run, Stop, run_isolated
from convserve.engine.runs import Batch, Runs
from convserve.engine.sharing import BRIEF, ENOUGH, LONG, SOON, Weight
from convserve.engine.waiting import Lane, Priority, Waiting
from convserve.errors import (
    CapacityError,
    ConvserveError,
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    QueueFull,
)

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Watches a batcher. Called on the event loop: be quick and do not raise."""

    def batch_started(self, size: int) -> None:
        """A batch went to an executor."""

    def batch_finished(self, size: int, seconds: float) -> None:
        """A batch came back, after so many seconds in its executor."""

    def dropped(self, reason: str) -> None:
        """A payload ended without an answer; the code of its error."""

    def cancelled(self, stage: str) -> None:
        """A payload's submitter left while it was in the "queue", or in "inference"."""


class _Nobody:
    """The Observer that watches nothing."""

    def batch_started(self, size: int) -> None: ...
    def batch_finished(self, size: int, seconds: float) -> None: ...
    def dropped(self, reason: str) -> None: ...
    def cancelled(self, stage: str) -> None: ...


P = TypeVar("P")
R = TypeVar("R")


@dataclass(slots=True)
class Answer(Generic[R]):
    """What came back for one payload, and what it took (durations in seconds)."""

    value: R
    queue_seconds: float
    run_seconds: float
    batch_size: int


@dataclass(slots=True)
class _Finished(Generic[R]):
    """What an executor hands back: a row or exception per payload, and when it ran."""

    rows: Sequence[R | Exception]
    started: float
    seconds: float


@dataclass(eq=False, slots=True)
class _Request(Generic[P, R]):
    payload: P
    key: Hashable
    priority: Priority
    deadline: float
    since: float
    answer: asyncio.Future[Answer[R]]
    job: Job[_Finished[R]] | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def began(self) -> bool:
        """Tell whether its run has begun, or is over."""
        return self.job is not None and self.job.began is not None

    def stale(self, now: float) -> bool:
        """Tell whether the deadline has passed or the submitter is gone."""
        return self.answer.done() or self.deadline <= now

    def gone(self) -> bool:
        """Tell whether the submitter is gone, or has an answer."""
        return self.answer.done()

    def leave(self) -> None:
        """The submitter waits no more."""
        if self.timer:
            self.timer.cancel()
            self.timer = None

    def give_up(self) -> None:
        """Tell the submitter that no answer comes by its deadline."""
        if not self.answer.done():
            self.answer.set_exception(DeadlineExceeded("there is no answer by the deadline"))


class Batcher(Generic[P, R]):
    """Joins the payloads of concurrent callers into batches and runs them on executor threads.

    `run` is called on an executor thread, at most `executors` times at once, with 1 to
    `max_batch_size` payloads of one key and a stop of its own, made by `new_stop`. It returns one
    row per payload, in order; an Exception in a row's place fails that payload alone.

    A run that nobody waits for any more, or that takes `run_seconds`, is stopped. If it has not
    come back `grace_seconds` later it is lost: its callers get DeadlineExceeded, a new executor
    takes its place, and `fault` tells of it until it does come back. Runs spread over the
    `cores`, which several batchers may share. A batcher belongs to one event loop, on whose thread
    short runs of normal priority happen while it is told to `trust` that they stay short: nothing
    could stop one there.
    """

    def __init__(
        self,
        run: Run[P, R],
        *,
        name: str,
        cost: Cost,
        new_stop: Callable[[], Stop],
        max_batch_size: int,
        queue_capacity: int,
        executors: int,
        run_seconds: float,
        grace_seconds: float,
        cores: Cores | None = None,
        observe: Observer | None = None,
    ) -> None:
        if max_batch_size < 1:
            raise ValueError("the batch size must be at least 1")
        self._run = run
        self._name = name
        self._forecast = Forecast(cost, max_batch_size)
        self._new_stop = new_stop
        self._overrun_seconds = run_seconds + grace_seconds
        self._observe: Observer = observe or _Nobody()
        self._waiting = Waiting[_Request[P, R]](
            queue_capacity, self._forecast.size, self._forecast.seconds
        )
        self._runs = Runs[_Request[P, R], _Finished[R]](
            name,
            cores or Cores(),
            executors=executors,
            run_seconds=run_seconds,
            grace_seconds=grace_seconds,
            ended=self._ended,
            lost=self._lost,
        )
        self._admission = Admission(name, self._waiting, self._runs)
        self.backlog_seconds = self._admission.backlog_seconds
        self._draining = False
        self._gathering = False
        self.trust = self._forecast.trust

    async def submit(
        self,
        payload: P,
        *,
        key: Hashable = None,
        deadline: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Answer[R]:
        """Return the row of `payload`, which may share a batch with payloads of an equal key.

        `deadline` is absolute, in seconds of the loop's clock. Cancelling the caller withdraws
        the payload. Raises QueueFull, DeadlineUnmeetable and Draining at once (QueueFull also
        later, if a low priority gives way), DeadlineExceeded at the deadline or when the run was
        stopped, and InferenceFailed if `run` failed on this payload (its own ConvserveErrors
        pass unchanged).
        """
        request = self._admit(payload, key, deadline, priority)
        # Who found an executor idle was not judged by a prediction, nor is one judged by him.
        predicted = deadline is not None and not request.began
        try:
            answer = await request.answer
        except asyncio.CancelledError:
            self._observe.cancelled("inference" if request.began else "queue")
            self._forget(request)
            raise
        except ConvserveError as error:
            self._observe.dropped(error.code)
            self._forget(request)
            if predicted and isinstance(error, DeadlineExceeded):
                self._admission.missed()
            raise
        finally:
            request.leave()
        if predicted:
            self._admission.met()
        return answer

    @property
    def waiting(self) -> int:
        """How many payloads wait, for a place in a batch or with theirs for an executor."""
        return len(self._waiting) + self._runs.queued

    @property
    def idle(self) -> bool:
        """Tell whether nobody waits and nothing runs."""
        return not (self._runs or self._runs.fault or self._waiting)

    @property
    def fault(self) -> str | None:
        """Tell of the runs that did not end when they were told to, None if there are none."""
        return self._runs.fault

    def resize(self, executors: int) -> None:
        """Run so many batches at once from now on, no more than at first."""
        self._admission.changed()
        self._runs.executors = executors

    async def drain(self) -> None:
        """Refuse the new, finish the accepted."""
        self._draining = True
        # Work-conserving: nobody waits unless somebody runs, or will when this turn ends.
        while self._runs or self._gathering:
            if self._gathering:
                await asyncio.sleep(0)
            else:
                await self._runs.wait()

    async def close(self) -> None:
        """Release the executor threads; those whom no `drain` let finish get Draining."""
        self._draining = True
        while batch := self._waiting.take(-math.inf, idle=1):  # before all deadlines: everybody
            for request in batch:
                request.answer.set_exception(self._closed())
        for request in self._runs.close():
            if not request.answer.done():
                request.answer.set_exception(self._closed())

    def _closed(self) -> Draining:
        return Draining(f"{self._name} is draining; retry elsewhere", self.backlog_seconds())

    def _admit(
        self, payload: P, key: Hashable, deadline: float | None, priority: Priority
    ) -> _Request[P, R]:
        if refusal := self._judge(key, deadline, priority):
            self._observe.dropped(refusal.code)
            raise refusal
        loop = self._loop
        end = math.inf if deadline is None else deadline
        request: _Request[P, R] = _Request(
            payload, key, priority, end, monotonic(), loop.create_future()
        )
        if deadline is not None:
            request.timer = loop.call_at(deadline, request.give_up)
        displaced = self._waiting.admit(request)
        if displaced and not displaced.answer.done():
            displaced.answer.set_exception(self._full())
        self._dispatch()
        return request

    def refusal(
        self,
        *,
        key: Hashable = None,
        deadline: float | None = None,
        priority: Priority = Priority.NORMAL,
        coming: int = 0,
    ) -> CapacityError | None:
        """Return what `submit` would raise at once: Draining, QueueFull or DeadlineUnmeetable.

        For callers whose payload costs something to make: nobody pays for what is refused. So
        many are `coming`, whose payloads are being made, and will be here first.
        """
        if self._waiting and self._runs.idle() > 0:
            self._dispatch()  # whoever comes sees to it that no free executor waits for the loop
        return self._judge(key, deadline, priority, coming)

    def _judge(
        self, key: Hashable, deadline: float | None, priority: Priority, coming: int = 0
    ) -> CapacityError | None:
        if self._draining:
            return self._closed()
        if self._waiting.full(priority):
            return self._full()
        if deadline is None:
            return None
        return self._admission.refusal(key, deadline, priority, coming)

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def _full(self) -> QueueFull:
        return QueueFull(f"the queue of {self._name} is full", self.backlog_seconds())

    def _forget(self, request: _Request[P, R]) -> None:
        self._admission.changed()
        if request.job is None:
            self._waiting.leave(request)
        else:
            self._runs.leave(request.job)

    def _dispatch(self) -> None:
        """Start what one arrival, or one executor coming back, makes possible."""
        lane = self._waiting.lane()
        if lane is None:
            return
        weight = self._weight(lane)
        if weight is Weight.SHORT:
            self._gather()
        elif (idle := self._runs.idle()) > 0:
            self._start(lane, weight, idle)
        elif idle > -self._runs.executors and not self._runs.fault and self._worth_queueing(lane):
            begin = monotonic() + self._runs.remaining_seconds() / self._runs.executors
            if requests := self._waiting.take(begin, 1):
                self._begin(requests, ahead=True)

    def _start(self, lane: Lane, weight: Weight, idle: int) -> None:
        """Start a batch on one of so many idle executors, if that is better than to wait."""
        if weight is Weight.SLIGHT and self._waiting.length(lane) < ENOUGH:
            if 0 < self._runs.remaining_seconds() < SOON:
                return
            idle = 1
        busy = self._runs.sizes() if weight is Weight.HEAVY else ()
        if requests := self._waiting.take(monotonic(), idle, busy=busy):
            self._begin(requests)

    def _weight(self, lane: Lane) -> Weight:
        priority, key = lane
        return self._forecast.weight(key) if priority is Priority.NORMAL else Weight.MODERATE

    def _worth_queueing(self, lane: Lane) -> bool:
        """Tell whether a whole batch waits in this lane, so brief that handing it over counts."""
        priority, key = lane
        size = self._forecast.size(key)
        whole = priority is Priority.NORMAL and self._waiting.length(lane) >= size
        return whole and 0 < self._forecast.seconds(key, size) < BRIEF

    def _gather(self) -> None:
        """Run what waits when this turn of the event loop ends."""
        if not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._run_here)

    def _run_here(self) -> None:
        """Run the next batch on the event loop's own thread."""
        self._gathering = False
        self._admission.changed()
        lane = self._waiting.lane()
        short = lane and self._weight(lane) is Weight.SHORT
        if short and (requests := self._waiting.take(monotonic(), 1, lane)):
            stop = self._new_stop()
            self._observe.batch_started(len(requests))
            finished = self._execute([request.payload for request in requests], stop)
            if finished.seconds > LONG:
                logger.warning("%s: a run held all requests up; none will again", self._name)
                self.trust(False)
            self._learn(requests, stop, finished)
            self._hand_out(requests, stop, finished)
        self._dispatch()

    def _begin(self, requests: list[_Request[P, R]], *, ahead: bool = False) -> None:
        payloads, stop = [request.payload for request in requests], self._new_stop()
        needed = self._forecast.seconds(requests[0].key, len(requests))
        self._observe.batch_started(len(requests))
        work = partial(self._execute, payloads, stop)
        job = self._runs.begin(requests, work, stop, needed, ahead=ahead)
        for request in requests:
            request.job = job

    def _execute(self, payloads: Sequence[P], stop: Stop) -> _Finished[R]:
        started = monotonic()
        rows = run_isolated(self._run, payloads, stop)
        return _Finished(rows, started, monotonic() - started)

    def _ended(self, batch: Batch[_Request[P, R], _Finished[R]] | None) -> None:
        """A run came back; without a batch, one whose callers were told long ago."""
        self._admission.changed()
        if batch is None:
            self._dispatch()
            return
        finished = batch.job.result.result()
        began = batch.job.began or finished.started
        self._forecast.lagged(monotonic() - began - finished.seconds)
        self._learn(batch.callers, batch.stop, finished)
        self._dispatch()  # first of all, so that the executor does not idle
        self._hand_out(batch.callers, batch.stop, finished)

    def _lost(self, batch: Batch[_Request[P, R], _Finished[R]]) -> None:
        """A run does not end."""
        self._admission.changed()
        self._dispatch()
        for request in batch.callers:
            if not request.answer.done():
                request.answer.set_exception(self._overrun(self._overrun_seconds))

    def _overrun(self, seconds: float) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self._name} was stopped after a run of {seconds:.1f} s")

    def _learn(
        self, requests: Sequence[_Request[P, R]], stop: Stop, finished: _Finished[R]
    ) -> None:
        key, size, seconds = requests[0].key, len(requests), finished.seconds
        # A run that failed took as long as its halves, one that was stopped at least so long.
        failed = any(isinstance(row, Exception) for row in finished.rows)
        if not failed or (stop.terminate and self._forecast.overdue(key, size, seconds)):
            self._forecast.learn(key, size, seconds)

    def _hand_out(
        self, requests: Sequence[_Request[P, R]], stop: Stop, finished: _Finished[R]
    ) -> None:
        """Give everybody what came back for them."""
        seconds, size = finished.seconds, len(requests)
        for request, row in zip(requests, finished.rows, strict=True):
            if request.answer.done():
                continue
            if isinstance(row, Exception):
                error = self._overrun(seconds) if stop.terminate else self._failure(row)
                request.answer.set_exception(error)
            else:
                queue_seconds = finished.started - request.since
                request.answer.set_result(Answer(row, queue_seconds, seconds, size))
        self._observe.batch_finished(size, seconds)

    def _failure(self, error: Exception) -> ConvserveError:
        if isinstance(error, ConvserveError):
            return error
        logger.error("%s failed on one input", self._name, exc_info=error)
        return InferenceFailed(f"{self._name} failed on this input")
