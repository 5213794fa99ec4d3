"""Those who wait for a place in a batch. No clock, thread or loop."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import count
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """What the queue needs to know of those who wait."""

    @property
    def key(self) -> Hashable:
        """Only entries with equal keys share a batch."""

    @property
    def deadline(self) -> float:
        """When the answer becomes worthless; infinity if never."""

    def stale(self, now: float) -> bool:
        """Tell whether nobody wants the answer any more."""


E = TypeVar("E", bound=Entry)


class Waiting(Generic[E]):
    """Those who wait, first come first served, one lane per key.

    `predict` returns the seconds that a run of so many entries of a key will take.
    """

    def __init__(
        self, capacity: int, max_batch_size: int, predict: Callable[[Hashable, int], float]
    ) -> None:
        if min(capacity, max_batch_size) < 1:
            raise ValueError("queue capacity and max batch size must be at least 1")
        self._capacity = capacity
        self._max_batch_size = max_batch_size
        self._predict = predict
        self._arrivals = count()
        self._lanes: dict[Hashable, OrderedDict[E, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def seconds(self) -> float:
        """Predict how long one executor would run for all that wait."""
        return sum(self._lane_seconds(key, len(lane)) for key, lane in self._lanes.items())

    def prospect(self, key: Hashable) -> tuple[float, float]:
        """Predict for one more entry with `key`: seconds of the runs before its own, of its own.

        As many as wait already are expected to join its batch after it.
        """
        length = len(self._lanes.get(key, ()))
        others = length % self._max_batch_size
        before = self.seconds() - self._predict(key, others)
        return before, self._predict(key, min(self._max_batch_size, others + 1 + length))

    @property
    def full(self) -> bool:
        """Tell whether nobody else may wait."""
        return len(self) >= self._capacity

    def admit(self, entry: E) -> None:
        """Let `entry` wait; there must be room."""
        if self.full:
            raise ValueError("nobody may be admitted to a full queue")
        self._lanes.setdefault(entry.key, OrderedDict())[entry] = next(self._arrivals)

    def leave(self, entry: E) -> bool:
        """Forget `entry`; return whether it was still waiting."""
        lane = self._lanes.get(entry.key, OrderedDict())
        waited = lane.pop(entry, None) is not None
        if waited and not lane:
            del self._lanes[entry.key]
        return waited

    def take(self, now: float, idle: int) -> list[E]:
        """Return the next batch for one of `idle` executors; empty if nobody waits.

        It holds entries with the key of the oldest, and at most a fair share of all that wait:
        one executor must not swallow what would keep the others busy. The stale are dropped, and
        so are those who would be answered too late, unless nobody else waits: work that nobody
        can use is never done in another's place. Nobody joins a batch that this makes too late.
        """
        size = min(self._max_batch_size, math.ceil(len(self) / idle))
        while self._lanes:
            oldest = min(self._lanes, key=lambda key: next(iter(self._lanes[key].values())))
            if batch := self._pop(oldest, size, now):
                return batch
        return []

    def _pop(self, key: Hashable, size: int, now: float) -> list[E]:
        lane = self._lanes[key]
        batch: list[E] = []
        end = math.inf
        while lane and len(batch) < size:
            entry = next(iter(lane))
            if entry.stale(now) or (len(self) > 1 and self._hopeless(entry, now)):
                del lane[entry]
                continue
            end = min(end, entry.deadline)
            if batch and now + self._predict(key, len(batch) + 1) > end:
                break
            del lane[entry]
            batch.append(entry)
        if not lane:
            del self._lanes[key]
        return batch

    def _hopeless(self, entry: E, now: float) -> bool:
        return now + self._predict(entry.key, 1) > entry.deadline

    def _lane_seconds(self, key: Hashable, length: int) -> float:
        full, rest = divmod(length, self._max_batch_size)
        return full * self._predict(key, self._max_batch_size) + self._predict(key, rest)
