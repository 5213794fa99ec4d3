"""Those who wait for a place in a batch. No clock, thread or loop."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from enum import IntEnum
from itertools import count
from typing import Generic, Protocol, TypeVar

from convserve.engine.sharing import share


class Priority(IntEnum):
    """Who goes first; the low go when none of the normal wait, and make room for them."""

    NORMAL = 0
    LOW = 1


class Entry(Protocol):
    """What the queue needs to know of those who wait."""

    @property
    def priority(self) -> Priority:
        """Only entries with equal priorities share a batch."""

    @property
    def key(self) -> Hashable:
        """Only entries with equal keys share a batch."""

    @property
    def deadline(self) -> float:
        """When the answer becomes worthless; infinity if never."""

    def stale(self, now: float) -> bool:
        """Tell whether nobody wants the answer any more."""

    def give_up(self) -> None:
        """It is dropped: no answer is possible by its deadline."""


E = TypeVar("E", bound=Entry)


Lane = tuple[Priority, Hashable]


class Waiting(Generic[E]):
    """Those who wait, by priority, then first come first served, one lane per priority and key.

    `size` returns how large a batch of a key may be, `predict` the seconds that a run of so many
    of them will take.
    """

    def __init__(
        self,
        capacity: int,
        size: Callable[[Hashable], int],
        predict: Callable[[Hashable, int], float],
    ) -> None:
        if capacity < 1:
            raise ValueError("the queue's capacity must be at least 1")
        self._capacity = capacity
        self._size = size
        self._predict = predict
        self._arrivals = count()
        self._lanes: dict[Lane, OrderedDict[E, int]] = {}
        self._normal = self._all = 0  # how many wait of normal priority, and of any

    def __len__(self) -> int:
        return self._all

    def seconds(self, priority: Priority = Priority.LOW, but: Lane | None = None) -> float:
        """Predict how long one executor would run for all that wait, of this priority or above.

        All `but` those in one lane.
        """
        seconds = 0.0
        for lane, entries in self._lanes.items():
            if lane[0] <= priority and lane != but:
                seconds += self._lane_seconds(lane[1], len(entries))
        return seconds

    def prospect(
        self, key: Hashable, priority: Priority = Priority.NORMAL, coming: int = 0
    ) -> tuple[float, float]:
        """Predict for one more entry with `key`: seconds of the runs before its own, of its own.

        So many more are `coming` before it. As many as wait already are expected to join its batch
        after it.
        """
        own, size = (priority, key), self._size(key)
        length = len(self._lanes.get(own, ())) + coming
        full, others = divmod(length, size)
        before = self.seconds(priority, but=own)
        if full:
            before += full * self._predict(key, size)
        return before, self._predict(key, min(size, others + 1 + length))

    def bound(self, key: Hashable, coming: int = 0) -> float:
        """Return what the runs of all that wait, and one more with `key`, take one by one.

        Infinity if some of them have another key.
        """
        for _, other in self._lanes:
            if other != key:
                return math.inf
        return (self._all + coming + 1) * self._predict(key, 1)

    def lane(self) -> Lane | None:
        """Return the priority and key of who is next, None if nobody waits."""
        if len(self._lanes) > 1:
            return min(self._lanes, key=self._turn)
        return next(iter(self._lanes), None)

    def length(self, lane: Lane) -> int:
        """Return how many wait in a lane in which somebody does."""
        return len(self._lanes[lane])

    def full(self, priority: Priority = Priority.NORMAL) -> bool:
        """Tell whether nobody else of this priority may wait; the normal displace the low."""
        waiting = self._normal if priority is Priority.NORMAL else self._all
        return waiting >= self._capacity

    def admit(self, entry: E) -> E | None:
        """Let `entry` wait; there must be room. Returns who had to make room, if anybody."""
        if self.full(entry.priority):
            raise ValueError("nobody may be admitted to a full queue")
        displaced = self._newest_low() if self._all >= self._capacity else None
        if displaced is not None:
            self.leave(displaced)
        lane = (entry.priority, entry.key)
        if lane not in self._lanes:
            self._lanes[lane] = OrderedDict()
        self._lanes[lane][entry] = next(self._arrivals)
        self._all += 1
        self._normal += entry.priority is Priority.NORMAL
        return displaced

    def leave(self, entry: E) -> bool:
        """Forget `entry`; return whether it was still waiting."""
        lane = (entry.priority, entry.key)
        if entry not in self._lanes.get(lane, ()):
            return False
        self._drop(lane, entry)
        if not self._lanes[lane]:
            del self._lanes[lane]
        return True

    def _drop(self, lane: Lane, entry: E) -> None:
        del self._lanes[lane][entry]
        self._all -= 1
        self._normal -= lane[0] is Priority.NORMAL

    def take(
        self, now: float, idle: int, only: Lane | None = None, busy: Sequence[int] = ()
    ) -> list[E]:
        """Return the next batch for one of `idle` executors; empty if nobody waits.

        Or if those in the `only` lane that will do are not next.

        It holds entries with the priority and key of the first, and at most a fair `share` of all
        of that priority or above: one executor must not swallow what would keep the others busy,
        be they idle or `busy` yet.
        The stale are dropped, and so are those who would be answered too late, unless nobody
        else waits: work that nobody can use is never done in another's place. Nobody joins a
        batch that this makes too late.
        """
        normal, low = share(self._normal, idle, busy), share(self._all, idle, busy)
        while (first := self.lane()) and only in (None, first):
            fair = normal if first[0] is Priority.NORMAL else low
            if batch := self._pop(first, min(self._size(first[1]), fair), now):
                return batch
        return []

    def _pop(self, lane: Lane, size: int, now: float) -> list[E]:
        entries, key = self._lanes[lane], lane[1]
        batch: list[E] = []
        end = math.inf
        soonest = now + self._predict(key, 1)
        latest = now + self._predict(key, min(size, len(entries)))  # no batch of these ends later
        while entries and len(batch) < size:
            entry = next(iter(entries))
            if entry.stale(now) or (soonest > entry.deadline and len(self) > 1):
                self._drop(lane, entry)
                entry.give_up()
                continue
            end = min(end, entry.deadline)
            if batch and latest > end and now + self._predict(key, len(batch) + 1) > end:
                break
            self._drop(lane, entry)
            batch.append(entry)
        if not entries:
            del self._lanes[lane]
        return batch

    def _turn(self, lane: Lane) -> tuple[Priority, int]:
        return lane[0], next(iter(self._lanes[lane].values()))

    def _newest_low(self) -> E:
        last = (
            next(reversed(entries.items()))
            for (priority, _), entries in self._lanes.items()
            if priority == Priority.LOW
        )
        return max(last, key=lambda item: item[1])[0]

    def _lane_seconds(self, key: Hashable, length: int) -> float:
        size = self._size(key)
        full, rest = divmod(length, size)
        return full * self._predict(key, size) + self._predict(key, rest)
