"""How many bytes of requests may be in memory at once, and how much memory the process may take.

Nobody waits for bytes: who would have to is refused, so that those who hold some can always go on.
"""

import ctypes
import math
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

from convserve.engine.cgroup import groups, read
from convserve.errors import InputTooLarge, QueueFull

SHARE = 0.8  # of the limit: the kernel ends who reaches it
UNLIMITED = 2**60  # what control groups v1 call no limit is more than this
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
MIB = 2**20
MAPPED = 2 * MIB  # what is as large has pages of its own, which leave with it
KEPT = 4 * MIB  # of what is free at the end of the heap
PAGE = os.sysconf("SC_PAGESIZE")


class ByteBudget:
    """The bytes of all requests, on any thread: `held` now."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = Lock()
        self.held = 0

    def hold(self) -> "Hold":
        """Account for one request; what it took is given back at the end of the block."""
        return Hold(self)

    def lend(self, hold: "Hold", count: int) -> None:
        """Lend so many bytes; raises what `Hold.take` raises."""
        with self._lock:
            if hold.held + count > self._capacity:
                raise InputTooLarge(
                    f"the request needs {hold.held + count:,} bytes of memory; "
                    f"all requests together may take {self._capacity:,}"
                )
            if self.held + count > self._capacity:
                raise QueueFull("the requests in flight take up the memory for them")
            hold.held += count
            self.held += count

    def take_back(self, hold: "Hold", count: int) -> None:
        """Take lent bytes back."""
        with self._lock:
            hold.held -= count
            self.held -= count


class Hold:
    """The bytes of one request: `held` now, of which `taken` until the end of the block."""

    __slots__ = ("_budget", "held", "taken")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0
        self.taken = 0

    def __enter__(self) -> Self:
        """Begin with nothing."""
        return self

    def __exit__(self, *error: object) -> None:
        """Give back what was taken."""
        self._budget.take_back(self, self.taken)

    def take(self, count: int) -> None:
        """Hold so many bytes more until the end of the request; not for several threads.

        Raises QueueFull while others hold too many, and InputTooLarge if the request would need
        more than there are even if it were alone.
        """
        self._budget.lend(self, count)
        self.taken += count

    def during(self, count: int) -> "Loan":
        """Hold so many bytes more within the block, which may outlast the request.

        Entering it raises what `take` raises.
        """
        return Loan(self._budget, self, count)


@dataclass(frozen=True, slots=True)
class Loan:
    """So many bytes within a block."""

    budget: ByteBudget
    hold: Hold
    count: int

    def __enter__(self) -> None:
        """Borrow them."""
        self.budget.lend(self.hold, self.count)

    def __exit__(self, *error: object) -> None:
        """Give them back."""
        self.budget.take_back(self.hold, self.count)


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The process's resident memory above which models give way, in bytes, and the reason.

    `limit` is what the control groups allow, infinity if they set no limit.
    """

    bytes: float
    limit: float
    reason: str

    def excess(self, needed: int = 0) -> float:
        """Return by how much the process will exceed the budget if it takes `needed` more."""
        return resident() + needed - self.bytes


def memory_budget(override: int | None = None, root: Path = Path("/")) -> MemoryBudget:
    """Take 80 % of what the control groups allow, or `override` bytes; `root` as for `groups`."""
    limit, group = min(((_limit(group), group) for group in groups(root)), default=(math.inf, root))
    if override is not None:
        return MemoryBudget(override, limit, f"{override / MIB:,.0f} MiB, set by configuration")
    if limit == math.inf:
        return MemoryBudget(limit, limit, "without limit: no control group sets one")
    budget = SHARE * limit
    return MemoryBudget(budget, limit, f"{budget / MIB:,.0f} MiB, 80 % of the limit of {group}")


def resident() -> int:
    """Return how many bytes of this process are in memory; 0 where that cannot be told."""
    pages = read(Path("/proc/self/statm")).split()[1:2]
    return int(pages[0]) * PAGE if pages else 0


def return_freed_memory() -> None:
    """Let glibc (mallopt(3)) give back what large images took, and keep what small ones did.

    Left alone, it learns to keep tens of megabytes for the next large one. Told to map large blocks
    only, it kept nothing: each photo of 448×448 pixels took 140 pages from the kernel anew. Threads
    share one heap, for nobody can give back what lies free at the end of one of their own. Call it
    before there are any.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, MAPPED)
        mallopt(M_TRIM_THRESHOLD, KEPT)
        mallopt(M_ARENA_MAX, 1)


def return_heap() -> None:
    """Give the free pages of glibc's heap back now (malloc_trim(3)); takes milliseconds."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _limit(group: Path) -> float:
    """v2 says `memory.max`, "max" for none; v1 `memory.limit_in_bytes`, a huge number for none."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = read(group / name).strip()
        if text.isdecimal() and int(text) < UNLIMITED:
            return float(text)
    return math.inf
