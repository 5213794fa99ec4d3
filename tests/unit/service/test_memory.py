import math
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from convserve.engine.memory import ByteBudget, Hold, memory_budget, resident
from convserve.errors import InputTooLarge, QueueFull
from tests.unit.service.cgroups import tree

COUNTS = st.integers(0, 12)


class BudgetMachine(RuleBasedStateMachine):
    """Requests that take, work and end in any order; work may outlast its request."""

    @initialize(capacity=st.integers(1, 20))
    def open(self, capacity: int) -> None:
        self.capacity = capacity
        self.budget = ByteBudget(capacity)
        self.requests: dict[Hold, tuple[AbstractContextManager[Hold], int]] = {}
        self.work: list[tuple[Hold, AbstractContextManager[None], int]] = []

    def held(self, of: Hold | None = None) -> int:
        taken = {hold: count for hold, (_, count) in self.requests.items()}
        working = [(hold, count) for hold, _, count in self.work]
        return sum(count for hold, count in [*taken.items(), *working] if of in (None, hold))

    def expect(self, hold: Hold, count: int) -> type[Exception] | None:
        if self.held(hold) + count > self.capacity:
            return InputTooLarge
        return QueueFull if self.held() + count > self.capacity else None

    @rule()
    def arrive(self) -> None:
        request = self.budget.hold()
        self.requests[request.__enter__()] = request, 0

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), count=COUNTS)
    def take(self, data: st.DataObject, count: int) -> None:
        hold = data.draw(st.sampled_from(list(self.requests)))
        if error := self.expect(hold, count):
            with pytest.raises(error):
                hold.take(count)
        else:
            hold.take(count)
            request, taken = self.requests[hold]
            self.requests[hold] = request, taken + count

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), count=COUNTS)
    def begin_work(self, data: st.DataObject, count: int) -> None:
        hold = data.draw(st.sampled_from(list(self.requests)))
        work = hold.during(count)
        if error := self.expect(hold, count):
            with pytest.raises(error):
                work.__enter__()
        else:
            work.__enter__()
            self.work.append((hold, work, count))

    @precondition(lambda self: self.work)
    @rule(data=st.data(), fails=st.booleans())
    def end_work(self, data: st.DataObject, fails: bool) -> None:
        place = data.draw(st.integers(0, len(self.work) - 1))
        _, work, _ = self.work.pop(place)
        leave(work, fails)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), fails=st.booleans())
    def end(self, data: st.DataObject, fails: bool) -> None:
        request, _ = self.requests.pop(data.draw(st.sampled_from(list(self.requests))))
        leave(request, fails)

    @invariant()
    def the_books_are_right(self) -> None:
        assert 0 <= self.budget.held <= self.capacity
        assert self.budget.held == self.held()

    def teardown(self) -> None:
        if not hasattr(self, "budget"):
            return
        for request, _ in self.requests.values():
            leave(request, fails=False)
        for _, work, _ in self.work:
            leave(work, fails=True)
        with self.budget.hold() as hold:  # everything is there again
            hold.take(self.capacity)
        assert self.budget.held == 0


def leave(block: AbstractContextManager[object], fails: bool) -> None:
    if fails:
        error = ConnectionError("the client left")
        assert not block.__exit__(type(error), error, None)
    else:
        block.__exit__(None, None, None)


TestBudget = BudgetMachine.TestCase
TestBudget.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@settings(max_examples=20, deadline=None)
@given(wanted=st.lists(st.integers(1, 50), min_size=50, max_size=200))
def test_threads_never_hold_too_much_and_give_all_back(wanted: list[int]) -> None:
    seen: list[int] = []
    budget = ByteBudget(100)

    def request(counts: Iterator[int]) -> None:
        try:
            with budget.hold() as hold:
                hold.take(next(counts))
                with hold.during(next(counts)):
                    hold.take(next(counts))
                    seen.append(budget.held)
        except (QueueFull, InputTooLarge):
            pass

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: request(iter((wanted * 2)[n : n + 3])), range(len(wanted))))
    assert max(seen, default=0) <= 100
    assert budget.held == 0


# --------------------------------------------------------------------------- the whole process

GIB = 2**30


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        pytest.param("0::/", {"memory.max": f"{GIB}"}, GIB, id="v2"),
        pytest.param("0::/", {"memory.max": "max"}, math.inf, id="v2 unlimited"),
        pytest.param("0::/", {}, math.inf, id="no group"),
        pytest.param(
            "0::/a/b",
            {"a/b/memory.max": f"{2 * GIB}", "a/memory.max": f"{GIB}"},
            GIB,
            id="v2 the parent binds",
        ),
        pytest.param(
            "5:memory:/a", {"memory/a/memory.limit_in_bytes": f"{GIB}"}, GIB, id="v1 own group"
        ),
        pytest.param(
            "5:memory:/host/a",
            {"memory/memory.limit_in_bytes": "9223372036854771712"},
            math.inf,
            id="v1 unlimited",
        ),
    ],
)
def test_the_memory_budget_follows_the_limit_of_the_container(
    tmp_path: Path, membership: str, files: dict[str, str], limit: float
) -> None:
    found = memory_budget(root=tree(tmp_path, membership, files))
    assert found.limit == limit
    assert found.bytes == pytest.approx(0.8 * limit)
    assert ("without limit" in found.reason) is (limit == math.inf)
    stated = memory_budget(3 * GIB, tree(tmp_path, membership, files))
    assert (stated.limit, stated.bytes) == (limit, 3 * GIB)


def test_the_excess_is_what_the_process_has_and_what_it_wants_beyond_the_budget() -> None:
    had = resident()
    block = np.ones(200 * 2**20, np.uint8)
    assert 0 <= resident() - had - block.nbytes < 2**25
    assert memory_budget(had).excess(GIB) == pytest.approx(block.nbytes + GIB, abs=2**25)


# A process of its own: glibc's thresholds are for good. Prints page faults for each block that is
# taken and freed, and the MiB that stay of a large one.
BLOCKS = """
from resource import RUSAGE_SELF, getrusage
from convserve.engine.memory import resident, return_freed_memory

return_freed_memory()
b"1" * 800_000
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(100):
    b"1" * 800_000
print((getrusage(RUSAGE_SELF).ru_minflt - before) / 100)
before = resident()
b"1" * 50_000_000
print((resident() - before) / 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_what_small_blocks_took_is_kept_and_what_large_ones_did_is_not() -> None:
    told = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, check=True)
    faults, left = map(float, told.stdout.split())
    assert faults < 20  # of 195 pages
    assert left < 5


# Prints the MiB that stay of what a thread took and freed.
THREAD = """
from concurrent.futures import ThreadPoolExecutor
from convserve.engine.memory import resident, return_freed_memory, return_heap

return_freed_memory()
before = resident()
with ThreadPoolExecutor(1) as pool:
    for _ in range(10):
        pool.submit(lambda: len([b"1" * 1_000_000 for _ in range(3)])).result()
    return_heap()
    print((resident() - before) / 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_what_a_thread_has_freed_can_be_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", THREAD], capture_output=True, check=True)
    assert float(told.stdout) < 0.5  # of 3, which would stay in a heap of its own
