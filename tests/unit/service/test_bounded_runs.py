"""Runs that nobody waits for, that take too long, or that never end."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from convserve.engine.batcher import Answer, Batcher
from convserve.engine.cost import CostModel
from convserve.engine.forecast import Cost
from convserve.engine.isolation import Stop
from convserve.errors import DeadlineExceeded, DeadlineUnmeetable, Draining, InferenceFailed
from tests.unit.service.batching import Known, make, on_a_loop, until


@dataclass
class Model:
    """Runs "endless" until it is stopped, "stuck" until it is released, and all else at once."""

    released: threading.Event = field(default_factory=threading.Event)
    stopped: list[Sequence[str]] = field(default_factory=list)
    stuck: int = 0

    def __call__(self, payloads: Sequence[str], stop: Stop) -> list[str]:
        if "exit" in payloads:
            sys.exit("a BaseException")
        if "stuck" in payloads:
            self.stuck += 1
            self.released.wait(30)
        end = time.monotonic() + 30
        while "endless" in payloads and time.monotonic() < end:
            if stop.terminate:
                self.stopped.append(payloads)
                raise RuntimeError("terminated")
            time.sleep(0.001)
        return [f"{payload}!" for payload in payloads]


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Model, Batcher[Any, Any]]]:
    model = Model()
    batcher = make(model, **{"executors": 1} | options)
    try:
        yield model, batcher
    finally:
        model.released.set()
        await batcher.drain()
        await batcher.close()


def soon(seconds: float = 0.05) -> float:
    return asyncio.get_running_loop().time() + seconds


@on_a_loop
async def test_a_run_whose_callers_have_expired_is_stopped() -> None:
    async with serving() as (model, batcher):
        with pytest.raises(DeadlineExceeded, match="no answer by the deadline"):
            await batcher.submit("endless", deadline=soon())
        assert (await batcher.submit("next")).value == "next!"
        assert model.stopped == [["endless"]]
        assert batcher.fault is None


@on_a_loop
async def test_a_run_is_stopped_only_when_the_last_caller_has_left() -> None:
    async with serving() as (model, batcher):
        tasks = [asyncio.create_task(batcher.submit(p)) for p in ("first", "endless", "endless")]
        await tasks[0]
        await until(lambda: len(batcher._runs) == 1)
        tasks[1].cancel()
        await asyncio.sleep(0.03)
        assert model.stopped == []
        tasks[2].cancel()
        await until(lambda: model.stopped == [["endless", "endless"]])
        await until(lambda: batcher.idle)


@on_a_loop
async def test_a_run_takes_no_longer_than_it_may() -> None:
    async with serving(run_seconds=0.05) as (model, batcher):
        with pytest.raises(DeadlineExceeded, match=r"stopped after a run of 0\.\d s"):
            await batcher.submit("endless")
        assert model.stopped == [["endless"]]  # and its halves are not tried
        assert (await batcher.submit("next")).value == "next!"


@on_a_loop
async def test_what_was_stopped_taught_how_long_it_takes_at_least() -> None:
    cost = CostModel()
    async with serving(run_seconds=0.05, cost=cost) as (_, batcher):
        with pytest.raises(DeadlineExceeded):
            await batcher.submit("endless")
        assert cost.predict(None, 1) >= 0.05
        slow = cost.predict(None, 1)
        with pytest.raises(DeadlineExceeded):
            await batcher.submit("endless", deadline=soon(0.01))
        await until(lambda: batcher.idle)
        assert cost.predict(None, 1) == slow  # that one only ended because its caller left


@on_a_loop
async def test_a_run_that_does_not_stop_is_lost_and_its_executor_replaced() -> None:
    async with serving(run_seconds=0.05, grace_seconds=0.05) as (model, batcher):
        stuck = asyncio.create_task(batcher.submit("stuck"))
        await asyncio.sleep(0)
        behind = asyncio.create_task(batcher.submit("behind"))
        with pytest.raises(DeadlineExceeded, match="stopped after a run of"):
            await stuck
        assert batcher.fault == "1 run(s) were told to stop and had not ended 0.05 s later"
        assert not batcher.idle
        assert (await behind).value == "behind!"  # by the new executor
        await batcher.drain()  # does not wait for the lost
        model.released.set()
        await until(lambda: batcher.fault is None)
        assert batcher.idle


@pytest.mark.parametrize("cost", [CostModel(), Known(0.001)])
def test_executors_are_replaced_once_and_no_more(cost: Cost) -> None:
    asyncio.run(replaced_once(cost))


async def replaced_once(cost: Cost) -> None:
    limits = {"run_seconds": 0.01, "grace_seconds": 0.01, "executors": 2, "max_batch_size": 1}
    async with serving(**limits, cost=cost) as (model, batcher):
        stuck = [asyncio.create_task(batcher.submit("stuck", deadline=soon(0.5))) for _ in "abcdef"]
        results = await asyncio.gather(*stuck, return_exceptions=True)
        assert {type(result) for result in results} == {DeadlineExceeded}
        assert model.stuck == 4  # two executors, and one in place of each
        waiting = asyncio.create_task(batcher.submit("next"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        model.released.set()
        assert (await waiting).value == "next!"


BRIEF_RUNS = {"executors": 1, "max_batch_size": 1, "cost": Known(0.001)}
"""With these, one payload waits on the executor already."""


@on_a_loop
async def test_what_waited_behind_a_lost_run_goes_on_elsewhere() -> None:
    async with serving(run_seconds=0.05, grace_seconds=0.05, **BRIEF_RUNS) as (_, batcher):
        stuck, *others = [asyncio.create_task(batcher.submit(p)) for p in ("stuck", "a", "b")]
        with pytest.raises(DeadlineExceeded):
            await stuck
        assert [(await task).value for task in others] == ["a!", "b!"]


@on_a_loop
async def test_a_run_behind_another_has_as_much_time() -> None:
    async with serving(run_seconds=0.05, **BRIEF_RUNS) as (model, batcher):
        tasks = [asyncio.create_task(batcher.submit("endless")) for _ in range(3)]
        for task in tasks:
            with pytest.raises(DeadlineExceeded, match=r"stopped after a run of 0\.[01] s"):
                await task
        assert model.stopped == [["endless"]] * 3


@on_a_loop
async def test_a_run_behind_another_that_nobody_waits_for_any_more_ends_at_once() -> None:
    async with serving(run_seconds=1, **BRIEF_RUNS) as (model, batcher):
        first, left = [asyncio.create_task(batcher.submit("endless")) for _ in range(2)]
        await until(lambda: len(batcher._runs) == 2)
        left.cancel()
        await asyncio.sleep(0.03)
        assert model.stopped == []
        first.cancel()
        await until(lambda: model.stopped == [["endless"]] * 2)
        await until(lambda: batcher.idle)


@on_a_loop
async def test_others_on_a_replaced_pool_come_back() -> None:
    async with serving(run_seconds=0.2, grace_seconds=0.05, executors=2, max_batch_size=1) as (
        _,
        batcher,
    ):
        stuck = asyncio.create_task(batcher.submit("stuck"))
        await asyncio.sleep(0.1)
        endless = asyncio.create_task(batcher.submit("endless", deadline=soon(0.25)))
        with pytest.raises(DeadlineExceeded):
            await stuck
        with pytest.raises(DeadlineExceeded):
            await endless
        await until(lambda: not batcher._runs)
        assert (await batcher.submit("next")).value == "next!"


@on_a_loop
async def test_close_stops_what_runs() -> None:
    async with serving() as (model, batcher):
        running = asyncio.create_task(batcher.submit("endless"))
        await until(lambda: len(batcher._runs) == 1)
        await batcher.close()
        with pytest.raises(DeadlineExceeded):
            await running
        assert model.stopped == [["endless"]]


@on_a_loop
async def test_close_forgets_what_is_lost() -> None:
    async with serving(run_seconds=0.01, grace_seconds=0.01) as (model, batcher):
        with pytest.raises(DeadlineExceeded):
            await batcher.submit("stuck")
        await batcher.close()
        model.released.set()
        await asyncio.sleep(0.02)  # it comes back, and nothing is made of it


@on_a_loop
async def test_whatever_a_run_raises_its_callers_are_answered() -> None:
    async with serving(max_batch_size=4) as (_, batcher):
        payloads = ["first", "a", "exit", "b"]
        submitted = [asyncio.create_task(batcher.submit(payload)) for payload in payloads]
        results = await asyncio.gather(*submitted, return_exceptions=True)
        assert isinstance(results[2], InferenceFailed)
        answers = [result.value for result in results if isinstance(result, Answer)]
        assert answers == ["first!", "a!", "b!"]


@pytest.mark.parametrize("closed", [False, True])
def test_the_loss_of_a_run_is_logged_and_its_return(
    caplog: pytest.LogCaptureFixture, closed: bool
) -> None:
    async def scenario() -> None:
        async with serving(run_seconds=0.01, grace_seconds=0.01) as (model, batcher):
            with pytest.raises(DeadlineExceeded):
                await batcher.submit("stuck")
            if closed:
                await batcher.close()
            model.released.set()
            await asyncio.sleep(0.03)

    asyncio.run(scenario())
    assert "net: 1 run(s) were told to stop" in caplog.text
    assert ("a lost run came back" in caplog.text) is not closed


@on_a_loop
async def test_a_run_that_came_back_is_not_stopped_afterwards() -> None:
    async with serving(run_seconds=0.02, grace_seconds=0.01) as (_, batcher):
        assert (await batcher.submit("quick")).value == "quick!"
        await asyncio.sleep(0.05)
        assert batcher.fault is None


@on_a_loop
async def test_a_run_that_is_overdue_is_expected_to_be_so_once_more() -> None:
    async with serving() as (_, batcher):
        running = asyncio.create_task(batcher.submit("endless"))  # nobody knows its cost
        await until(lambda: batcher.backlog_seconds() > 0.1)
        with pytest.raises(DeadlineUnmeetable):
            await batcher.submit("next", deadline=soon(0.1))
        running.cancel()


@on_a_loop
async def test_close_turns_away_even_those_who_are_late() -> None:
    cost = Known(0)
    async with serving(cost=cost) as (_, batcher):
        running = asyncio.create_task(batcher.submit("endless"))
        waiting = [asyncio.create_task(batcher.submit("late", deadline=soon(60))) for _ in "ab"]
        await until(lambda: len(batcher._waiting) == 2)
        cost.each = 1e6
        await batcher.close()
        for task in waiting:
            with pytest.raises(Draining):
                await task
        running.cancel()
