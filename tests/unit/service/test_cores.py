"""Runs spread over the cores, each where it ran last, and give way to strangers."""

import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.engine import cores as module
from convserve.engine.cores import FLEETING, REST_SECONDS, Cores, Seat

CPUS = os.sched_getaffinity(0)


@given(cpus=st.sets(st.integers(0, 9), min_size=1), day=st.lists(st.booleans(), max_size=60))
def test_no_core_has_two_runs_more_than_another(cpus: set[int], day: list[bool]) -> None:
    cores, running = Cores(cpus), list[int]()
    for arrives in day:
        if arrives or not running:
            cpu = cores.take(None)
            assert cpu is not None
            assert running.count(cpu) == min(map(running.count, cpus))
            running.append(cpu)
        else:
            cores.give_back(running.pop(0))


@given(cpus=st.sets(st.integers(0, 9), min_size=1), data=st.data())
def test_where_it_ran_last_it_runs_again_if_nobody_does(
    cpus: set[int], data: st.DataObject
) -> None:
    last = data.draw(st.sampled_from(sorted(cpus)))
    cores = Cores(cpus)
    assert cores.take(last) == last
    assert (cores.take(last) == last) == (len(cpus) == 1)


def test_without_cpus_the_scheduler_is_left_alone() -> None:
    assert Cores().take(None) is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return iter([now])


@pytest.mark.parametrize(
    ("here", "there", "pinned"),
    [(0.7, 0.1, False), (0.7, 0.6, True), (0.2, 0.0, True), (0.7, None, False), (0.2, None, True)],
)
def test_threads_go_where_they_like_while_a_stranger_keeps_one_core_busy(
    clock: Iterator[list[float]], here: float, there: float | None, pinned: bool
) -> None:
    now, cores = next(clock), Cores({0, 1})
    if there is not None:
        cores.take(0)
        cores.take(1)
        cores.crowded(1, there, since=99.5)
    cores.crowded(0, here, since=99.5)
    assert (cores.take(None) is not None) == pinned
    now[0] += REST_SECONDS
    assert cores.take(None) is not None


def test_what_was_seen_long_ago_is_not_compared(clock: Iterator[list[float]]) -> None:
    now, cores = next(clock), Cores({0, 1})
    cores.crowded(1, 0.0, since=99.0)
    now[0] += 60
    cores.crowded(0, 0.3, since=159.5)
    assert cores.take(None) is not None


def compute(seconds: float = 2 * FLEETING) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize("brief", [True, False])
def test_after_a_brief_run_a_thread_goes_where_it_likes(brief: bool) -> None:
    seen = list[set[int]]()

    def sit() -> None:
        seat = Seat(Cores(CPUS))
        for brief_now in (False, brief, False):
            with seat:
                seen.append(os.sched_getaffinity(0))
                if not brief_now:
                    compute()

    thread = threading.Thread(target=sit)
    thread.start()
    thread.join()
    assert len(seen[1]) == 1
    assert seen[2] == (CPUS if brief else seen[1])


def on_a_thread(cores: Cores, seen: list[set[int]], here: threading.Barrier) -> threading.Thread:
    def sit() -> None:
        with Seat(cores):
            here.wait(30)
            seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=sit)
    thread.start()
    return thread


def test_threads_really_sit_on_cores_of_their_own() -> None:
    cores, seen, here = Cores(CPUS), list[set[int]](), threading.Barrier(len(CPUS))
    threads = [on_a_thread(cores, seen, here) for _ in CPUS]
    for thread in threads:
        thread.join()
    assert sorted(map(min, seen)) == sorted(CPUS)
    assert all(len(cpus) == 1 for cpus in seen)
    assert os.sched_getaffinity(0) == CPUS


def test_a_core_that_may_not_be_used_any_more_is_no_fault() -> None:
    cores, seen = Cores({100_000}), list[set[int]]()
    on_a_thread(cores, seen, threading.Barrier(1)).join()
    assert seen == [CPUS]
    assert cores.take(None) is None


def test_a_seat_looks_how_crowded_its_core_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    cores, shares = Cores(CPUS), list[float]()
    monkeypatch.setattr(cores, "crowded", lambda cpu, share, since: shares.append(share))

    def sit() -> None:
        seat = Seat(cores)
        for _ in range(3):
            with seat:
                compute()
                time.sleep(0.001)  # the kernel counts when it switches

    thread = threading.Thread(target=sit)
    thread.start()
    thread.join()
    assert len(shares) == 3
    assert all(0 <= share <= 1 for share in shares)
