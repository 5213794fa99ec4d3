"""Byte work on threads: admitted by prediction, never begun when it is too late."""

import asyncio
import math
from collections.abc import Iterator
from threading import Event
from time import monotonic, sleep

import pytest

from convserve.engine.decoders import Decoders, JobQueue
from convserve.errors import DeadlineExceeded, DeadlineUnmeetable, QueueFull

pytestmark = pytest.mark.anyio
JOB = 0.02  # seconds


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(1)
    yield decoders
    decoders.close()


async def taught(decoders: Decoders, capacity: int = 100) -> JobQueue:
    """A queue that knows how long its jobs take."""
    queue = JobQueue(decoders, capacity, "pictures")
    await queue.run(lambda: sleep(JOB), math.inf)
    assert queue.needed() >= JOB
    return queue


async def test_a_job_that_would_be_too_late_is_refused_before_it_costs_anything(
    decoders: Decoders,
) -> None:
    queue = await taught(decoders)
    jobs = [asyncio.create_task(queue.run(lambda: sleep(JOB), math.inf)) for _ in range(5)]
    await asyncio.sleep(0)
    queue.check(monotonic() + 20 * JOB)
    with pytest.raises(DeadlineUnmeetable, match="pictures would take") as refusal:
        queue.check(monotonic() + 3 * JOB)
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after >= 5 * JOB
    await asyncio.gather(*jobs)
    queue.check(monotonic() + 3 * JOB)


async def test_who_is_alone_is_never_refused(decoders: Decoders) -> None:
    queue = await taught(decoders)
    queue.check(monotonic() + JOB / 100)


async def test_what_is_expired_or_departed_never_begins(decoders: Decoders) -> None:
    queue = JobQueue(decoders, 10, "pictures")
    begun: list[str] = []
    gate = Event()
    first = asyncio.create_task(queue.run(gate.wait, math.inf))
    late = asyncio.create_task(queue.run(lambda: begun.append("late"), monotonic() + JOB))
    left = asyncio.create_task(queue.run(lambda: begun.append("left"), math.inf))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(DeadlineExceeded, match="pictures were not done"):
        await late
    gate.set()
    assert await first
    await queue.run(lambda: begun.append("next"), math.inf)
    assert begun == ["next"]
    assert queue.jobs == 0
    assert decoders.wait_seconds == pytest.approx(0)


async def test_a_full_queue_refuses(decoders: Decoders) -> None:
    queue = await taught(decoders, capacity=2)
    jobs = [asyncio.create_task(queue.run(lambda: sleep(JOB), math.inf)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match="2 pictures"):
        queue.check(math.inf)
    with pytest.raises(QueueFull):
        await queue.run(lambda: None, math.inf)
    await asyncio.gather(*jobs)


async def test_what_a_job_raises_is_its_callers(decoders: Decoders) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    queue = await taught(decoders)
    with pytest.raises(ZeroDivisionError):
        await queue.run(broken, math.inf)
    assert queue.jobs == 0


async def test_queues_share_the_threads(decoders: Decoders) -> None:
    queue, other = await taught(decoders), await taught(decoders)
    jobs = [asyncio.create_task(queue.run(lambda: sleep(JOB), math.inf)) for _ in range(5)]
    await asyncio.sleep(0)
    assert other.needed() > 5 * JOB
    await asyncio.gather(*jobs)
