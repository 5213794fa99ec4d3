"""How many bytes of requests may be in memory at once.

Nobody waits for bytes: who would have to is refused, so that those who hold some can always go on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from convserve.errors import InputTooLarge, QueueFull


class ByteBudget:
    """The bytes of all requests, on any thread; `observe` is told of every change."""

    def __init__(self, capacity: int, observe: Callable[[int], object] = lambda held: None) -> None:
        self._capacity = capacity
        self._observe = observe
        self._lock = Lock()
        self._held = 0

    @contextmanager
    def hold(self) -> Iterator["Hold"]:
        """Account for one request; what it took is given back at the end of the block."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            self.take_back(hold, hold.taken)

    def lend(self, hold: "Hold", count: int) -> None:
        """Lend so many bytes; raises what `Hold.take` raises."""
        with self._lock:
            if hold.held + count > self._capacity:
                raise InputTooLarge(
                    f"the request needs {hold.held + count:,} bytes of memory; "
                    f"all requests together may take {self._capacity:,}"
                )
            if self._held + count > self._capacity:
                raise QueueFull("the requests in flight take up the memory for them")
            self._move(hold, count)

    def take_back(self, hold: "Hold", count: int) -> None:
        """Take lent bytes back."""
        with self._lock:
            self._move(hold, -count)

    def _move(self, hold: "Hold", count: int) -> None:
        hold.held += count
        self._held += count
        self._observe(self._held)


class Hold:
    """The bytes of one request: `held` now, of which `taken` until its end."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0
        self.taken = 0

    def take(self, count: int) -> None:
        """Hold so many bytes more until the end of the request; not for several threads.

        Raises QueueFull while others hold too many, and InputTooLarge if the request would need
        more than there are even if it were alone.
        """
        self._budget.lend(self, count)
        self.taken += count

    @contextmanager
    def during(self, count: int) -> Iterator[None]:
        """Hold so many bytes more within the block, which may outlast the request.

        Raises what `take` raises.
        """
        self._budget.lend(self, count)
        try:
            yield
        finally:
            self._budget.take_back(self, count)
