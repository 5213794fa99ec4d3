"""Three times the load that the model can bear: what is refused, and what the rest is worth."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from convserve.engine.batcher import Answer, Batcher
from convserve.engine.cost import WINDOW, CostModel
from convserve.engine.forecast import FRESH, Cost, Forecast
from convserve.engine.isolation import Stop
from convserve.errors import DeadlineExceeded, DeadlineUnmeetable
from tests.unit.service.batching import Known, make, on_a_loop, until

EACH, DEADLINE, LOAD, SECONDS = 0.008, 0.15, 3, 1.5
UNKNOWN = Known(0)  # predicts nothing: no deadline is out of reach


@dataclass
class Model:
    """Takes so long for each payload, and counts."""

    payloads: int = 0
    busy: float = 0.0

    def __call__(self, payloads: Sequence[float], stop: Stop) -> Sequence[float]:
        started = time.monotonic()
        time.sleep(EACH * len(payloads))
        self.busy += time.monotonic() - started
        self.payloads += len(payloads)
        return payloads


@dataclass
class Outcome:
    """How the visits of an open-loop load ended."""

    answered: list[float] = field(default_factory=list)  # seconds before the deadline
    expired: int = 0
    refused: list[float] = field(default_factory=list)  # seconds that the refusal took

    async def visit(self, batcher: Batcher[float, float]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await batcher.submit(0.0, deadline=began + DEADLINE)
            self.answered.append(began + DEADLINE - loop.time())
        except DeadlineExceeded:
            self.expired += 1
        except DeadlineUnmeetable:
            self.refused.append(loop.time() - began)


async def overload(cost: Cost) -> tuple[Model, Outcome]:
    model, outcome = Model(), Outcome()
    batcher = make(model, cost=cost, executors=1, max_batch_size=4)
    await batcher.submit(0.0)
    begin, every = asyncio.get_running_loop().time(), EACH / LOAD
    async with asyncio.TaskGroup() as visits:
        for number in range(int(SECONDS / every)):
            await asyncio.sleep(begin + number * every - asyncio.get_running_loop().time())
            visits.create_task(outcome.visit(batcher))
    await batcher.drain()
    await batcher.close()
    return model, outcome


@on_a_loop
async def test_who_is_accepted_is_answered_in_time_and_nobody_works_in_vain() -> None:
    model, outcome = await overload(CostModel())
    answered = len(outcome.answered)
    assert sum(slack < 0 for slack in outcome.answered) <= answered / 100
    assert answered > 9 * outcome.expired
    assert answered > 0.9 * model.payloads
    assert model.busy > 0.8 * SECONDS  # near capacity: the executor hardly ever waits
    assert max(outcome.refused) < DEADLINE / 2  # at once, not at the deadline
    # Without predictions the executor is as busy, but mostly with what comes too late.
    model, blind = await overload(UNKNOWN)
    assert model.busy > 0.8 * SECONDS
    assert len(blind.answered) < 0.5 * answered
    assert blind.expired > len(blind.answered)


@on_a_loop
async def test_one_slow_measurement_does_not_refuse_for_ever() -> None:
    cost = CostModel()
    cost.learn(None, 1, 1e6)
    batcher = make(lambda payloads, stop: payloads, cost=cost, executors=1)
    loop = asyncio.get_running_loop()
    for _ in range(20):
        answer = await batcher.submit("a", deadline=loop.time() + 10)
        assert answer.value == "a"
    assert cost.predict(None, 1) < 1
    await batcher.close()


@on_a_loop
async def test_what_cannot_be_met_is_refused_at_once_and_told_when_to_come_back() -> None:
    model = Model()
    batcher = make(model, cost=Known(10), executors=2, max_batch_size=2)
    now = asyncio.get_running_loop().time()
    accepted = [asyncio.create_task(batcher.submit(0.0)) for _ in range(5)]  # 2 run, 3 wait
    await until(lambda: model.payloads > 0 or len(batcher._waiting) == 3)
    assert batcher.backlog_seconds() == pytest.approx((2 * 10 + 3 * 10) / 2, abs=1)
    # Half a batch waits, whose second half it would be: (2 × 10 + 20) / 2 + 20, with caution 56.
    with pytest.raises(DeadlineUnmeetable, match=r"net would answer in 5\d\.\d+ s") as raised:
        await batcher.submit(0.0, deadline=now + 50)
    assert raised.value.retry_after == pytest.approx(25, abs=1)
    soon = asyncio.create_task(batcher.submit(0.0, deadline=now + 60))
    assert [(await task).value for task in [*accepted, soon]] == [0.0] * 6
    await batcher.close()


@on_a_loop
async def test_a_refusal_holds_until_a_run_ends_for_who_has_no_more_time() -> None:
    gate = threading.Semaphore(0)

    def run(payloads: Sequence[str], stop: Stop) -> Sequence[str]:
        gate.acquire()
        return payloads

    batcher = make(run, cost=Known(10), executors=1, max_batch_size=1)
    now = asyncio.get_running_loop().time()
    accepted = [asyncio.create_task(batcher.submit(text)) for text in ("runs", "waits")]
    await until(lambda: batcher.waiting == 1)
    for seconds in (25, 24, 30):  # 10 are left of the run, 10 for who waits, 10 of its own
        found = batcher.refusal(deadline=now + seconds)
        assert isinstance(found, DeadlineUnmeetable)
        assert found.detail.startswith(("net would answer in 41.", "net would answer in 42."))
    assert not batcher.refusal(deadline=now + 45)
    gate.release()
    await accepted[0]
    assert not batcher.refusal(deadline=now + 30)
    gate.release()
    await accepted[1]
    await batcher.close()


@on_a_loop
async def test_missed_deadlines_make_it_more_cautious() -> None:
    """It predicts half of what a run takes: at first it accepts what comes too late."""

    def run(payloads: Sequence[str], stop: Stop) -> Sequence[str]:
        time.sleep(0.04)
        return payloads

    batcher = make(run, cost=Known(0.02), executors=1, max_batch_size=1)
    loop = asyncio.get_running_loop()
    endings = Counter[str]()
    for _ in range(60):
        before = asyncio.create_task(batcher.submit("before"))
        await asyncio.sleep(0)
        try:  # (20 + 20) ms are predicted, with caution 56; 80 are needed
            await batcher.submit("judged", deadline=loop.time() + 0.06)
            endings["met"] += 1
        except (DeadlineExceeded, DeadlineUnmeetable) as error:
            endings[error.code] += 1
        await before
    await batcher.close()
    assert endings["deadline_unmeetable"] > 2 * endings["deadline_exceeded"]
    assert endings["deadline_exceeded"] > 0


@on_a_loop
async def test_an_idle_executor_takes_whatever_comes() -> None:
    batcher = make(Model(), cost=Known(1e6), executors=1)
    answer = await batcher.submit(0.0, deadline=asyncio.get_running_loop().time() + 10)
    assert isinstance(answer, Answer)
    await batcher.close()


@on_a_loop
async def test_a_busy_event_loop_is_part_of_the_prediction() -> None:
    batcher = make(lambda payloads, stop: payloads, cost=UNKNOWN, executors=1, max_batch_size=1)
    for _ in range(20):
        running = asyncio.create_task(batcher.submit("a"))
        await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251 - the loop has other things to do
        await running
    tasks = [asyncio.create_task(batcher.submit("a")) for _ in range(11)]
    await asyncio.sleep(0)
    assert 10 * 0.02 * 0.9 < batcher.backlog_seconds() < 1
    await asyncio.gather(*tasks)
    await batcher.close()


def test_predictions_follow_what_runs_teach() -> None:
    cost = CostModel()
    forecast = Forecast(cost, 8)
    assert forecast.seconds(None, 4) == 0
    forecast.learn(None, 4, 1.0)
    assert forecast.seconds(None, 4) == 1
    for _ in range(FRESH - 1):
        forecast.learn(None, 4, 1.2)
        assert forecast.seconds(None, 4) == 1  # as expected: no reason to look closer yet
    forecast.learn(None, 4, 1.2)
    assert forecast.seconds(None, 4) == pytest.approx(1.2)
    for _ in range(WINDOW):
        forecast.learn(None, 4, 5.0)
    assert forecast.seconds(None, 4) == 5
