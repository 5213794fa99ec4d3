"""Threads for batches: who came back last goes next."""

import asyncio
import threading
from queue import SimpleQueue

from convserve.engine.cores import Cores
from convserve.engine.executors import Executors, Job
from tests.unit.service.batching import on_a_loop, until


class Work:
    """Waits for its `end`, and tells which thread it was on."""

    def __init__(self) -> None:
        self.end = SimpleQueue[None]()

    def __call__(self) -> threading.Thread:
        self.end.get()
        return threading.current_thread()


def given(executors: Executors, work: Work) -> Job[threading.Thread]:
    job = Job(work, asyncio.get_running_loop().create_future())
    executors.run(job)
    return job


@on_a_loop
async def test_who_came_back_last_goes_next() -> None:
    executors = Executors("pool", Cores())
    works = [Work() for _ in range(3)]
    jobs = [given(executors, work) for work in works]
    threads = []
    for place in (1, 2, 0):
        works[place].end.put(None)
        threads.append(await jobs[place].result)
    for expected in reversed(threads):
        work = Work()
        job = given(executors, work)
        threads.append(expected)
        works.append(work)
        jobs.append(job)
    for work in works[3:]:
        work.end.put(None)
    assert await asyncio.gather(*(job.result for job in jobs[3:])) == threads[3:]
    executors.close()


@on_a_loop
async def test_a_job_is_over_before_the_event_loop_has_its_result() -> None:
    executors, work = Executors("pool", Cores()), Work()
    job = given(executors, work)
    assert not job.over
    work.end.put(None)
    while not job.over:  # without a turn of the event loop
        pass
    assert not job.result.done()
    again = Work()
    again.end.put(None)
    assert await given(executors, again).result == await job.result  # no second thread
    executors.close()


@on_a_loop
async def test_what_is_next_begins_where_and_when_a_thread_is_free() -> None:
    executors, works = Executors("pool", Cores()), [Work() for _ in range(3)]
    jobs = [Job(work, asyncio.get_running_loop().create_future()) for work in works]
    for job in jobs:
        executors.run_next(job)  # the first at once: nobody would come back
    assert [job.began is not None for job in jobs] == [True, False, False]
    works[0].end.put(None)
    while jobs[1].began is None:  # without a turn of the event loop
        pass
    assert jobs[0].over
    assert executors.close() == [jobs[2]]
    works[1].end.put(None)
    assert await jobs[0].result is await jobs[1].result


@on_a_loop
async def test_busy_threads_end_when_their_work_is_done() -> None:
    executors, work = Executors("pool", Cores()), Work()
    job = given(executors, work)
    executors.close()
    work.end.put(None)
    thread = await job.result
    await until(lambda: not thread.is_alive())


def test_a_result_that_nobody_waits_for_is_dropped() -> None:
    executors, work = Executors("pool", Cores()), Work()

    async def leave() -> None:
        given(executors, work)

    asyncio.run(leave())
    work.end.put(None)
    executors.close()
    ended = (thread for thread in threading.enumerate() if thread.name == "pool")
    for thread in ended:
        thread.join(30)
        assert not thread.is_alive()
