import asyncio
import contextlib
import logging
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from convserve.engine.batcher import Answer, Batcher
from convserve.engine.cost import CostModel
from convserve.engine.isolation import Stop, run_isolated
from convserve.engine.sharing import BRIEF, ENOUGH, FEW, HANDING_OVER, LONG, SOON, share
from convserve.engine.waiting import Priority, Waiting
from convserve.errors import (
    ConvserveError,
    DeadlineExceeded,
    DeadlineUnmeetable,
    Draining,
    InferenceFailed,
    InvalidInput,
    QueueFull,
)
from tests.unit.service.batching import Flag, Known, Runner, make, on_a_loop, until

# ---------------------------------------------------------------- the queue, on a simulated clock


@dataclass(eq=False)
class Person:
    number: int
    key: Hashable
    deadline: float
    priority: Priority = Priority.NORMAL
    gone: bool = False
    given_up: bool = False

    def give_up(self) -> None:
        self.given_up = True

    def stale(self, now: float) -> bool:
        return self.gone or self.deadline <= now


class WaitingMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, the promises of `Waiting.take` hold."""

    @initialize(
        capacity=st.integers(1, 12),
        largest=st.integers(1, 5),
        each=st.sampled_from([0.0, 0.3, 0.7]),
    )
    def open(self, capacity: int, largest: int, each: float) -> None:
        self.capacity, self.largest, self.cost = capacity, largest, Known(each)
        self.queue = Waiting[Person](capacity, lambda key: largest, self.cost.predict)
        self.now = 0.0
        self.people: list[Person] = []  # in order of arrival, until taken or left
        self.numbers = iter(range(10**6))

    def live(self) -> list[Person]:
        return [person for person in self.people if not person.stale(self.now)]

    def in_time(self, batch: Sequence[Person]) -> bool:
        end = self.now + self.cost.predict("", len(batch))
        return all(end <= person.deadline for person in batch)

    def useful(self) -> list[Person]:
        return [person for person in self.live() if self.in_time([person])]

    def waiting(self, priority: Priority) -> int:
        """How many wait with this priority or above (whom the queue dropped, it told nobody)."""
        return sum(
            len(entries) for lane, entries in self.queue._lanes.items() if lane[0] <= priority
        )

    @rule(
        keys=st.text("aaab", min_size=1, max_size=8),
        patience=st.sampled_from([1.0, 2.0, 3.0, math.inf]),
        priority=st.sampled_from(Priority),
    )
    def arrive(self, keys: str, patience: float, priority: Priority) -> None:
        for key in keys:
            person = Person(next(self.numbers), key, self.now + patience, priority)
            full = self.waiting(priority) == self.capacity  # the low do not count for the normal
            assert self.queue.full(priority) is full
            if full:
                with pytest.raises(ValueError, match="full queue"):
                    self.queue.admit(person)
                continue
            crowded = len(self.queue) == self.capacity
            displaced = self.queue.admit(person)
            assert (displaced is not None) is crowded
            if displaced:  # the newest of the low, for one who is not
                low = [person for person in self.people if person.priority == Priority.LOW]
                assert person.priority == Priority.NORMAL
                assert not {*low[low.index(displaced) + 1 :]} & {*self.useful()}
                self.people.remove(displaced)
            self.people.append(person)

    @rule(seconds=st.sampled_from([0.1, 0.5, 0.8]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.people)).gone = True

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        person = data.draw(st.sampled_from(self.people))
        useful, before = person in self.useful(), len(self.queue)
        waited = self.queue.leave(person)
        assert waited or not useful  # others may have been dropped earlier
        assert len(self.queue) == before - waited
        assert not self.queue.leave(person)
        self.people.remove(person)

    @rule(
        idle=st.sampled_from([1, 1, 2, 4]),
        busy=st.one_of(st.just([]), st.lists(st.integers(1, 5), max_size=3)),
    )
    def take(self, idle: int, busy: list[int]) -> None:
        useful = sorted(self.useful(), key=lambda person: person.priority)
        shares = {priority: share(self.waiting(priority), idle, busy) for priority in Priority}
        everybody_is_useful = len(useful) == len(self.people)
        alone = self.live() if len(self.people) == len(self.queue) == 1 else []
        batch = self.queue.take(self.now, idle, busy=busy)
        assert not any(person.given_up for person in [*useful, *batch])
        if not useful:  # the last of all is run, and may prove the prediction wrong
            assert len(batch) <= 1
            assert set(alone) <= set(batch) <= set(self.live())
            assert len(self.queue) == 0
        else:  # work-conserving
            first = useful[0].priority  # the low go only if nobody else has any use of a run
            same_key = [p for p in useful if (p.priority, p.key) == (first, batch[0].key)]
            size = min(self.largest, shares[first])
            while not self.in_time(same_key[:size]):
                size -= 1
            assert batch == same_key[:size]  # FIFO, no stranger, nobody stale, nobody late
            assert not everybody_is_useful or batch[0] is useful[0]  # the oldest goes first
        self.people = [person for person in self.people if person not in batch]

    @invariant()
    def nobody_is_lost(self) -> None:
        assert len(self.useful()) <= len(self.queue) <= self.capacity

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        live, useful, taken = self.live(), self.useful(), list[Person]()
        while batch := self.queue.take(self.now, 1):
            taken += batch
        assert {p.number for p in useful} <= {p.number for p in taken}
        assert {p.number for p in taken} <= {p.number for p in live}
        assert len(self.queue) == 0


TestWaiting = WaitingMachine.TestCase
TestWaiting.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


counts = st.integers(1, 8)


@given(waiting=counts, idle=counts, busy=st.lists(counts, max_size=8))
def test_a_fair_share(waiting: int, idle: int, busy: list[int]) -> None:
    most = share(waiting, idle, busy)
    assert 1 <= most <= math.ceil(waiting / idle)  # so that no executor idles
    batches = idle + len(busy) + 1  # one more is filling
    assert most == math.ceil(waiting / idle) or batches * most >= waiting + sum(busy)
    assert most == share(waiting, idle, sorted(busy))
    assert share(waiting, idle) == math.ceil(waiting / idle)


def test_the_prospect_of_one_more_counts_its_own_batch_apart() -> None:
    queue = Waiting[Person](100, lambda key: 4, Known(1).predict)
    assert queue.prospect("a") == (0, 1)
    for arrived, prospect in enumerate([(0, 3), (0, 4), (0, 4), (4, 4), (4, 4)], start=1):
        queue.admit(Person(arrived, "a", math.inf))
        assert queue.prospect("a") == prospect  # as many again may join it
        assert queue.prospect("b") == (arrived, 1)
        assert queue.prospect("a", Priority.LOW) == (arrived, 1)
        assert queue.seconds() == arrived
    queue.admit(Person(0, "a", math.inf, Priority.LOW))
    assert queue.seconds() == 6
    assert queue.prospect("b") == (5, 1)


@pytest.mark.parametrize(("capacity", "largest"), [(0, 1), (1, 0), (-1, 4)])
def test_limits_below_one_are_refused(capacity: int, largest: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make(lambda payloads, stop: payloads, queue_capacity=capacity, max_batch_size=largest)


# --------------------------------------------------------------------------- isolation, no thread


@given(poison=st.lists(st.booleans(), min_size=1, max_size=64))
def test_only_the_offenders_fail(poison: list[bool]) -> None:
    calls: list[int] = []

    def run(payloads: Sequence[int], stop: Stop) -> list[int]:
        calls.append(len(payloads))
        for payload in payloads:
            if poison[payload]:
                raise ZeroDivisionError(payload)
        return [payload * 10 for payload in payloads]

    rows = run_isolated(run, range(len(poison)), Flag())
    for payload, row in enumerate(rows):
        if poison[payload]:
            assert isinstance(row, ZeroDivisionError)
            assert row.args == (payload,)
        else:
            assert row == payload * 10
    levels = math.ceil(math.log2(len(poison))) + 1
    assert len(calls) <= 1 + 2 * sum(poison) * levels


@given(payloads=st.integers(1, 9), too_many=st.sampled_from([-1, 1, 2]))
def test_rows_that_do_not_match_the_payloads_reach_nobody(payloads: int, too_many: int) -> None:
    rows = run_isolated(
        lambda batch, stop: ["row"] * (len(batch) + too_many), range(payloads), Flag()
    )
    assert [type(row) for row in rows] == [RuntimeError] * payloads


# ----------------------------------------------------------------------- the batcher, real threads


@dataclass
class Gate:
    """A runner that holds each batch until `open` and remembers what it was given."""

    opened: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    batches: list[list[Any]] = field(default_factory=list)

    def __call__(self, payloads: Sequence[Any], stop: Stop) -> list[Any]:
        self.batches.append(list(payloads))
        assert self.opened.acquire(timeout=30)
        return [f"{payload}!" for payload in payloads]

    def open(self, batches: int = 1000) -> None:
        self.opened.release(batches)

    async def running(self, batches: int) -> None:
        """Wait until so many batches have reached an executor."""
        await until(lambda: len(self.batches) == batches)


@dataclass
class Record:
    """An Observer with a memory."""

    started: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)

    def batch_started(self, size: int) -> None:
        self.started.append(size)

    def batch_finished(self, size: int, seconds: float) -> None:
        assert seconds >= 0
        self.finished.append(size)

    def dropped(self, reason: str) -> None:
        self.reasons[reason] += 1

    def cancelled(self, stage: str) -> None:
        self.stages[stage] += 1


Submitted = asyncio.Task[Answer[Any]]


class Bench:
    """A gated batcher and its surroundings."""

    def __init__(self, **options: Any) -> None:
        self.gate = Gate()
        self.record = Record()
        self.batcher = make(self.gate, observe=self.record, **options)

    def submit(self, payload: Any, **options: Any) -> Submitted:
        return asyncio.create_task(self.batcher.submit(payload, **options))

    async def submitted(self, payloads: Sequence[Any], **options: Any) -> list[Submitted]:
        """Submit one after the other, and let each one reach the queue or an executor."""
        tasks = [self.submit(payload, **options) for payload in payloads]
        await asyncio.sleep(0)
        return tasks


@contextlib.asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[Bench]:
    the_bench = Bench(**{"executors": 1, "max_batch_size": 4, "queue_capacity": 100} | options)
    try:
        yield the_bench
    finally:
        the_bench.gate.open()
        await the_bench.batcher.drain()
        await the_bench.batcher.close()


@on_a_loop
async def test_a_lone_request_never_waits() -> None:
    async with bench(executors=2) as b:
        (task,) = await b.submitted(["a"])
        await b.gate.running(1)  # with nobody else and no timer
        b.gate.open()
        answer = await task
        assert (answer.value, answer.batch_size) == ("a!", 1)


@on_a_loop
async def test_while_batches_run_the_next_one_fills() -> None:
    async with bench(executors=2, max_batch_size=4) as b:
        tasks = await b.submitted("abcdefghijk")
        await b.gate.running(2)
        assert sorted(b.gate.batches) == [["a"], ["b"]]
        b.gate.open(1)
        await b.gate.running(3)
        assert b.gate.batches[2] == list("cdef")  # of nine, no more than the maximum
        b.gate.open()
        assert [(await task).value for task in tasks] == [f"{c}!" for c in "abcdefghijk"]


@pytest.mark.parametrize(("each", "taken"), [(1.0, "cde"), (HANDING_OVER, "cdefgh")])
def test_of_heavy_inputs_some_are_left_to_the_executor_that_is_busy_yet(
    each: float, taken: str
) -> None:
    async def scenario() -> None:
        async with bench(executors=2, max_batch_size=8, cost=Known(each)) as b:
            await b.submitted("abcdefgh")
            await b.gate.running(2)
            b.gate.open(1)
            await b.gate.running(3)
            assert b.gate.batches[2] == list(taken)  # six wait and one runs: for three batches

    asyncio.run(scenario())


@on_a_loop
async def test_executors_that_come_back_together_share_what_waits() -> None:
    async with bench(executors=3, max_batch_size=8) as b:
        await b.submitted("abcdefghij")
        await b.gate.running(3)
        b.gate.open(3)
        time.sleep(0.1)  # noqa: ASYNC251 - the loop is busy while all three come back
        await b.gate.running(6)
        assert sorted(b.gate.batches[3:]) == [["d", "e", "f"], ["g", "h"], ["i", "j"]]


@on_a_loop
async def test_only_equal_keys_share_a_batch() -> None:
    async with bench(max_batch_size=8) as b:
        await b.submitted(["first"], key="x")
        for payload in ["x1", "y1", "x2", "y2", "z1"]:
            await b.submitted([payload], key=payload[0])
        b.gate.open()
        await b.batcher.drain()
        assert b.gate.batches == [["first"], ["x1", "x2"], ["y1", "y2"], ["z1"]]


@on_a_loop
async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async with bench(max_batch_size=1, queue_capacity=3, cost=Known(10)) as b:
        await b.submitted("abcd")
        with pytest.raises(QueueFull) as raised:
            await b.batcher.submit("e")
        assert raised.value.retry_after == pytest.approx(4 * 10, abs=5)
        assert b.record.reasons == {"queue_full": 1}
    assert ["e"] not in b.gate.batches


@on_a_loop
async def test_the_low_run_when_nobody_else_waits_and_give_way_when_the_queue_is_full() -> None:
    async with bench(queue_capacity=3, cost=Known(10)) as b:
        (running,) = await b.submitted(["running"])
        low = await b.submitted(["low 1", "low 2"], priority=Priority.LOW)
        normal = await b.submitted(["a", "b"])
        with pytest.raises(QueueFull) as raised:
            await low[1]  # the newest
        assert raised.value.retry_after == pytest.approx(40, abs=5)
        with pytest.raises(QueueFull):
            await b.batcher.submit("low 3", priority=Priority.LOW)
        b.gate.open()
        assert [(await task).value for task in [running, *normal, low[0]]]
        assert b.record.reasons == {"queue_full": 2}
    assert b.gate.batches == [["running"], ["a", "b"], ["low 1"]]


@on_a_loop
async def test_the_low_do_not_keep_others_from_a_deadline() -> None:
    soon = asyncio.get_running_loop().time() + 30
    async with bench(max_batch_size=1, cost=Known(10)) as b:
        await b.submitted("a")
        await b.submitted("bcdefgh", priority=Priority.LOW)
        assert not b.batcher.refusal(deadline=soon)  # 10 s for a, 10 s for its own
        assert isinstance(
            b.batcher.refusal(deadline=soon, priority=Priority.LOW), DeadlineUnmeetable
        )


@on_a_loop
async def test_what_would_be_refused_can_be_asked_beforehand() -> None:
    soon, late = (asyncio.get_running_loop().time() + seconds for seconds in (15, 1000))
    async with bench(max_batch_size=1, queue_capacity=2, cost=Known(10)) as b:
        assert not b.batcher.refusal(deadline=soon)  # an executor is idle
        await b.submitted("ab")
        assert not b.batcher.refusal(deadline=late)
        assert isinstance(b.batcher.refusal(deadline=soon), DeadlineUnmeetable)
        await b.submitted("c")
        assert isinstance(b.batcher.refusal(deadline=late), QueueFull)
        b.gate.open()
        await b.batcher.drain()
        assert isinstance(b.batcher.refusal(deadline=late), Draining)
    assert b.gate.batches == [["a"], ["b"], ["c"]]


@on_a_loop
async def test_a_deadline_holds_behind_a_long_run() -> None:
    async with bench(queue_capacity=2) as b:
        running, waiting = await b.submitted(
            ["running", "waiting"], deadline=asyncio.get_running_loop().time() + 0.05
        )
        for task in (running, waiting):  # the gate is closed all the time
            with pytest.raises(DeadlineExceeded, match="no answer by the deadline"):
                await task
        assert await b.submitted("ab")  # their places in the queue are free again
        assert b.record.reasons == {"deadline_exceeded": 2}
    assert b.gate.batches == [["running"], ["a", "b"]]


@on_a_loop
async def test_the_expired_are_not_run_even_if_the_loop_was_held_up() -> None:
    async with bench() as b:
        (running,) = await b.submitted(["running"])
        await b.gate.running(1)
        (late,) = await b.submitted(["late"], deadline=asyncio.get_running_loop().time() + 0.02)
        b.gate.open()
        time.sleep(0.05)  # noqa: ASYNC251 - so that the end of the run is seen before the timer
        assert (await running).value == "running!"
        with pytest.raises(DeadlineExceeded):
            await late
    assert b.gate.batches == [["running"]]


@on_a_loop
async def test_a_deadline_that_has_passed_is_not_run() -> None:
    async with bench() as b:
        b.gate.open()
        with pytest.raises(DeadlineExceeded):
            await b.batcher.submit("late", deadline=asyncio.get_running_loop().time() - 1)
        assert (await b.batcher.submit("next")).value == "next!"
    assert b.gate.batches == [["next"]]


@on_a_loop
async def test_the_departed_are_not_run() -> None:
    async with bench(queue_capacity=3) as b:
        running, *waiting = await b.submitted(["running", "a", "b", "c"])
        await b.gate.running(1)
        running.cancel()
        waiting[1].cancel()
        b.gate.open()
        assert [(await waiting[i]).value for i in (0, 2)] == ["a!", "c!"]
        assert running.cancelled()
        assert waiting[1].cancelled()
        assert b.record.reasons == {}
        assert b.record.stages == {"inference": 1, "queue": 1}
    assert b.gate.batches == [["running"], ["a", "c"]]


@on_a_loop
async def test_who_departs_in_the_last_moment_is_not_run() -> None:
    async with bench() as b:
        _, waiting = await b.submitted(["running", "a"])
        await b.gate.running(1)
        b.gate.open()
        time.sleep(0.05)  # noqa: ASYNC251 - the run ends, and
        await asyncio.sleep(0)  # the loop gets to know just before the cancellation
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
    assert b.gate.batches == [["running"]]


@on_a_loop
async def test_the_departed_give_their_place_to_others() -> None:
    async with bench(queue_capacity=2) as b:
        _, first, _ = await b.submitted(["running", "a", "b"])
        with pytest.raises(QueueFull):
            await b.batcher.submit("too many")
        first.cancel()
        await asyncio.wait([first])
        b.submit("fits now")
        await asyncio.sleep(0)
        assert len(b.batcher._waiting) == 2
    assert b.gate.batches == [["running"], ["b", "fits now"]]


@on_a_loop
async def test_drain_finishes_the_accepted_and_refuses_the_new() -> None:
    async with bench(executors=2, max_batch_size=2) as b:
        accepted = await b.submitted("abcdefg")
        draining = asyncio.create_task(b.batcher.drain())
        await asyncio.sleep(0)
        with pytest.raises(Draining, match="net is draining"):
            await b.batcher.submit("new")
        assert not draining.done()
        b.gate.open()
        await draining
        assert all([(await task).value.endswith("!") for task in accepted])
        assert len(b.batcher._waiting) == 0
        assert b.record.reasons == {"draining": 1}


def executor_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("net-executor")]


@on_a_loop
async def test_close_releases_the_threads() -> None:
    await until(lambda: not executor_threads())  # those of the test before
    async with bench(executors=3) as b:
        await b.submitted("abc")
        assert len(executor_threads()) == 3
        b.gate.open()
        await b.batcher.drain()
        await b.batcher.close()
        await until(lambda: not executor_threads())
        with pytest.raises(Draining):
            await b.batcher.submit("after")


@on_a_loop
async def test_close_without_drain_turns_away_those_who_wait() -> None:
    async with bench() as b:
        running, *waiting = await b.submitted("abc")
        await b.batcher.close()
        for task in waiting:
            with pytest.raises(Draining):
                await task
        b.gate.open()
        assert (await running).value == "a!"


@on_a_loop
async def test_an_answer_says_what_it_took() -> None:
    async with bench(max_batch_size=3) as b:
        tasks = await b.submitted("abcd")
        await b.gate.running(1)
        await asyncio.sleep(0.03)
        b.gate.open()
        first, *others = [await task for task in tasks]
        assert first.run_seconds >= 0.03 * 0.9
        assert all(answer.queue_seconds >= 0.03 * 0.9 for answer in others)
        assert [answer.batch_size for answer in (first, *others)] == [1, 3, 3, 3]
        assert b.record.started == b.record.finished == [1, 3]


def failing(payloads: Sequence[Any], stop: Stop) -> list[Any]:
    """Fails for the payload "crash" as a model does; other exceptions are rows."""
    if "crash" in payloads:
        raise OSError("secret internals of the model")
    return list(payloads)


def test_the_cause_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        batcher = make(failing)
        with pytest.raises(InferenceFailed) as raised:
            await batcher.submit("crash")
        assert str(raised.value) == "net failed on this input"
        assert raised.value.__cause__ is None
        await batcher.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert "secret internals of the model" in caplog.text


@on_a_loop
async def test_an_exception_in_a_row_fails_that_row_alone() -> None:
    batcher = make(failing, executors=1)
    unusable = InvalidInput("not finite", pointer="/instances/1")
    rows = ["a", unusable, "b", ValueError("not finite")]
    results = await asyncio.gather(*map(batcher.submit, rows), return_exceptions=True)
    a, refused, b, failed = results
    assert isinstance(a, Answer)
    assert isinstance(b, Answer)
    assert (a.value, b.value) == ("a", "b")
    assert refused is unusable  # the service's own errors pass unchanged
    assert isinstance(failed, InferenceFailed)
    await batcher.close()


# ------------------------------------------------- whole brief batches, that wait on their executor


@on_a_loop
async def test_a_whole_brief_batch_does_not_wait_for_the_event_loop() -> None:
    async with bench(max_batch_size=2, cost=Known(BRIEF / 100)) as b:
        tasks = await b.submitted("abcdefg")
        await b.gate.running(1)
        b.gate.open(2)
        while len(b.gate.batches) < 2:  # without a turn of the event loop
            pass
        assert b.gate.batches == [["a"], ["b", "c"]]
        assert len(b.batcher._waiting) == 4
        b.gate.open()
        assert [(await task).batch_size for task in tasks] == [1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("payloads", "options", "priority"),
    [
        ("ab", {"cost": Known(BRIEF / 100)}, Priority.NORMAL),  # half of a batch
        ("abc", {"cost": Known(BRIEF)}, Priority.NORMAL),
        ("abc", {"cost": CostModel()}, Priority.NORMAL),  # nothing is known
        ("abc", {"cost": Known(BRIEF / 100)}, Priority.LOW),
    ],
)
def test_all_others_wait_for_those_who_may_join_or_pass_them(
    payloads: str, options: dict[str, Any], priority: Priority
) -> None:
    async def scenario() -> None:
        async with bench(max_batch_size=2, **options) as b:
            await b.submitted(payloads, priority=priority)
            assert len(b.batcher._waiting) == len(payloads) - 1

    asyncio.run(scenario())


@on_a_loop
async def test_no_more_than_one_batch_waits_on_each_executor() -> None:
    async with bench(executors=2, max_batch_size=1, cost=Known(BRIEF / 100)) as b:
        await b.submitted(range(9))
        assert len(b.batcher._waiting) == 5


@on_a_loop
async def test_who_waits_on_an_executor_hears_when_it_closes() -> None:
    b = Bench(executors=1, max_batch_size=1, cost=Known(BRIEF / 100))
    running, ahead, waiting = await b.submitted("abc")
    await b.gate.running(1)
    await b.batcher.close()
    for task in (ahead, waiting):
        with pytest.raises(Draining):
            await task
    b.gate.open()
    assert (await running).value == "a!"
    assert b.gate.batches == [["a"]]


# ------------------------------------------------------------- short runs, on the loop's own thread


@contextlib.asynccontextmanager
async def short(run: Runner, **options: Any) -> AsyncIterator[Batcher[Any, Any]]:
    batcher = make(run, **{"cost": Known(HANDING_OVER / 10)} | options)
    batcher.trust(True)
    yield batcher
    await batcher.drain()
    await batcher.close()


def which_thread(payloads: Sequence[Any], stop: Stop) -> list[threading.Thread]:
    return [threading.current_thread()] * len(payloads)


@on_a_loop
async def test_what_is_shorter_than_handing_it_over_runs_here_with_all_who_came_at_once() -> None:
    async with short(which_thread) as batcher:
        answers = await asyncio.gather(*map(batcher.submit, range(7)))
    assert {answer.value for answer in answers} == {threading.main_thread()}
    assert {answer.batch_size for answer in answers} == {7}


@on_a_loop
async def test_of_many_so_many_run_at_once_as_are_short() -> None:
    async with short(which_thread, max_batch_size=32) as batcher:
        answers = await asyncio.gather(*map(batcher.submit, range(20)))
    assert {answer.value for answer in answers} == {threading.main_thread()}
    assert [answer.batch_size for answer in answers] == [8] * 16 + [4] * 4  # 32 and 16 are long


@pytest.mark.parametrize(
    ("options", "trusting", "priority"),
    [
        ({}, False, Priority.NORMAL),
        ({}, True, Priority.LOW),
        ({"cost": Known(HANDING_OVER / FEW)}, True, Priority.NORMAL),
        ({"cost": CostModel()}, True, Priority.NORMAL),  # nothing is known
    ],
)
def test_all_else_is_handed_over(
    options: dict[str, Any], trusting: bool, priority: Priority
) -> None:
    async def scenario() -> Answer[Any]:
        async with short(which_thread, **options) as batcher:
            batcher.trust(trusting)
            return await batcher.submit("a", priority=priority)

    assert asyncio.run(scenario()).value is not threading.main_thread()


def test_one_long_run_here_is_the_last(caplog: pytest.LogCaptureFixture) -> None:
    def run(payloads: Sequence[Any], stop: Stop) -> list[threading.Thread]:
        time.sleep(2 * LONG)
        return which_thread(payloads, stop)

    async def scenario() -> list[bool]:
        async with short(run) as batcher:
            answers = [await batcher.submit("a") for _ in range(2)]
        return [answer.value is threading.main_thread() for answer in answers]

    assert asyncio.run(scenario()) == [True, False]
    assert "held all requests up" in caplog.text


@on_a_loop
async def test_here_too_only_the_offender_fails() -> None:
    async with short(failing) as batcher:
        results = await asyncio.gather(
            *map(batcher.submit, ["a", ValueError("bad"), "b"]), return_exceptions=True
        )
    assert [isinstance(result, InferenceFailed) for result in results] == [False, True, False]


@on_a_loop
async def test_who_is_next_when_the_turn_ends_may_not_be_short() -> None:
    loop = asyncio.get_running_loop()
    for before in ("departed", "expired"):
        async with short(which_thread) as batcher:
            deadline = loop.time() + 0.001 if before == "expired" else None
            first = asyncio.create_task(batcher.submit("a", deadline=deadline))
            low = asyncio.create_task(batcher.submit("b", priority=Priority.LOW))
            await asyncio.sleep(0)
            assert batcher.waiting == 2
            if before == "departed":
                first.cancel()
            else:
                time.sleep(0.002)  # noqa: ASYNC251 - its time is up before the turn ends
            assert (await low).value is not threading.main_thread()
            assert isinstance(
                (await asyncio.gather(first, return_exceptions=True))[0],
                (asyncio.CancelledError, DeadlineExceeded),
            )


@on_a_loop
async def test_drain_finishes_who_waits_for_the_turn_to_end() -> None:
    async with short(which_thread) as batcher:
        waits = asyncio.create_task(batcher.submit("a"))
        await asyncio.sleep(0)
        assert batcher.waiting == 1
        await batcher.drain()
        assert (await waits).batch_size == 1


# ------------------------------------------------------- everything at once, in random scenarios


@dataclass(frozen=True)
class Visit:
    """One client's behaviour; seconds are short, so that all of it overlaps."""

    number: int
    kind: str
    key: str
    arrives: float
    patience: float | None
    departs: float | None


seconds = st.sampled_from([0.0, 0.001, 0.002, 0.004])
visits = st.builds(
    Visit,
    number=st.just(0),
    kind=st.sampled_from(["good"] * 12 + ["raises", "bad row"] * 3 + ["exits", "endless"]),
    key=st.sampled_from("ab"),
    arrives=seconds,
    patience=st.none() | st.none() | st.sampled_from([0.001, 0.003, 60.0]),
    departs=st.none() | st.none() | seconds,
)


class Kitchen:
    """A runner for visits that keeps the rules of the house under watch."""

    def __init__(self, max_batch_size: int, executors: int) -> None:
        self.max_batch_size = max_batch_size
        self.executors = threading.Semaphore(executors)
        self.seen: set[int] = set()
        self.broken: list[str] = []

    def __call__(self, batch: Sequence[Visit], stop: Stop) -> list[Any]:
        self.check(len(batch) <= self.max_batch_size, "too large")
        self.check(len({visit.key for visit in batch}) == 1, "mixed keys")
        self.check(self.executors.acquire(blocking=False), "too many executors at work")
        time.sleep(0.001)
        self.seen |= {visit.number for visit in batch}
        kinds = {visit.kind for visit in batch}
        while "endless" in kinds and not stop.terminate:
            time.sleep(0.001)
        self.executors.release()
        if "endless" in kinds:
            raise RuntimeError("stopped")
        if "exits" in kinds:
            sys.exit("exits")
        if any(visit.kind == "raises" for visit in batch):
            raise RuntimeError("poison")
        return [
            ArithmeticError("bad row") if visit.kind == "bad row" else ("row of", visit.number)
            for visit in batch
        ]

    def check(self, held: bool, rule_of_the_house: str) -> None:
        if not held:
            self.broken.append(rule_of_the_house)


async def visit_once(batcher: Batcher[Visit, Any], visit: Visit) -> Answer[Any]:
    await asyncio.sleep(visit.arrives)
    now = asyncio.get_running_loop().time()
    deadline = None if visit.patience is None else now + visit.patience
    return await batcher.submit(visit, key=visit.key, deadline=deadline)


async def play(batcher: Batcher[Visit, Any], day: Sequence[Visit]) -> list[Any]:
    """What each visitor ended with: an Answer, an error or a CancelledError."""
    loop = asyncio.get_running_loop()
    tasks = [asyncio.create_task(visit_once(batcher, visit)) for visit in day]
    for visit, task in zip(day, tasks, strict=True):
        if visit.departs is not None:
            loop.call_later(visit.arrives + visit.departs, task.cancel)
    async with asyncio.timeout(30):
        endings: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    return endings


def check_ending(visit: Visit, ending: Any, seen: set[int], stopped: bool) -> None:
    """Everybody gets exactly their own answer or their own error."""
    if isinstance(ending, Answer):
        assert visit.kind == "good"
        assert ending.value == ("row of", visit.number)
    elif isinstance(ending, InferenceFailed):
        assert visit.kind in {"raises", "exits", "bad row"}
        assert visit.number in seen
    elif isinstance(ending, DeadlineExceeded):
        assert stopped or (visit.patience is not None and visit.patience < 60)
    elif isinstance(ending, asyncio.CancelledError):
        assert visit.departs is not None
    elif isinstance(ending, DeadlineUnmeetable):
        assert visit.patience is not None
        assert visit.number not in seen
    else:
        assert isinstance(ending, QueueFull)
        assert visit.number not in seen


@settings(max_examples=60, deadline=None)
@given(
    day=st.lists(visits, min_size=1, max_size=40),
    max_batch_size=st.integers(1, 8),
    queue_capacity=st.sampled_from([1, 4, 100]),
    executors=st.integers(1, 3),
    trusting=st.booleans(),
)
def test_everybody_gets_their_own_answer_or_their_own_error(
    day: list[Visit], max_batch_size: int, queue_capacity: int, executors: int, trusting: bool
) -> None:
    day = [Visit(**vars(visit) | {"number": number}) for number, visit in enumerate(day)]
    endless = any(visit.kind == "endless" for visit in day)
    here = trusting and not endless  # nothing would end it there
    kitchen, record = Kitchen(max_batch_size, executors + here), Record()

    async def scenario() -> list[Any]:
        batcher = make(
            kitchen,
            max_batch_size=max_batch_size,
            queue_capacity=queue_capacity,
            executors=executors,
            run_seconds=0.01 if endless else 60,
            observe=record,
            cost=Known(HANDING_OVER / 6) if here else CostModel(),
        )
        batcher.trust(here)
        endings = await play(batcher, day)
        await batcher.drain()
        assert batcher.waiting == 0
        assert batcher.backlog_seconds() == 0
        await batcher.close()
        return endings

    endings = asyncio.run(scenario())
    assert kitchen.broken == []
    for visit, ending in zip(day, endings, strict=True):
        check_ending(visit, ending, kitchen.seen, stopped=endless)
    answered = sum(isinstance(ending, Answer) for ending in endings)
    never_came = (
        sum(  # cancelled before their submit began
            isinstance(ending, asyncio.CancelledError) for ending in endings
        )
        - record.stages.total()
    )
    dropped = record.reasons.total() + record.stages.total()
    assert answered + dropped + never_came == len(day)
    assert sum(record.started) == sum(record.finished)
    assert set(record.reasons) <= {kind.code for kind in errors_of_a_submit}
    assert set(record.stages) <= {"queue", "inference"}


errors_of_a_submit: list[type[ConvserveError]] = [
    QueueFull,
    DeadlineUnmeetable,
    DeadlineExceeded,
    InferenceFailed,
]


@on_a_loop
async def test_few_and_slight_ones_wait_for_the_run_that_ends_soon() -> None:
    """With 8 users half of word_cnn's CPU went into waking a second executor for two or three."""
    slight, heavy = HANDING_OVER / 2, HANDING_OVER * 2
    for each, left, coming, wait in (
        (slight, SOON / 2, ENOUGH - 1, True),
        (slight, SOON / 2, ENOUGH, False),
        (slight, SOON * 2, 1, False),
        (heavy, SOON / 2, 1, False),
    ):
        gate, begun = threading.Semaphore(0), list[int]()

        def run(
            payloads: Sequence[int], stop: Stop, gate: Any = gate, begun: Any = begun
        ) -> Sequence[int]:
            begun.append(len(payloads))
            gate.acquire()
            return payloads

        batcher = make(run, cost=Known(each))
        batcher.trust(True)
        runs = batcher._runs
        remaining = partial(lambda runs, left: left * len(runs), runs, left)
        runs.remaining_seconds = remaining  # type: ignore[method-assign]
        first = asyncio.create_task(batcher.submit(-1))
        await until(lambda begun=begun: begun == [1])  # type: ignore[misc]
        others = [asyncio.create_task(batcher.submit(n)) for n in range(coming)]
        await asyncio.sleep(0.05)
        assert (begun == [1]) == wait
        for _ in range(1 + coming):
            gate.release()
        answers = [(await task).value for task in (first, *others)]
        assert answers == [-1, *range(coming)]
        assert not wait or begun == [1, coming]
        await batcher.close()
