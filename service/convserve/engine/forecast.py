"""What the runs of one model will take, remembered until some of them teach better.

Many ask, at every admission and every dispatch; few runs teach something new.
"""

from collections.abc import Hashable
from functools import lru_cache
from typing import Protocol

from convserve.engine.sharing import FEW, HANDING_OVER, Weight, weight

FRESH = 8  # runs as expected, after which predictions are made anew all the same
SURPRISE = 0.5  # of what was expected: so much more or less is news
KEYS = 512  # pairs of a key and a batch size whose prediction is remembered
SMOOTHING = 0.2  # weight of the newest batch in the mean lag


class Cost(Protocol):
    """Predicts runs, and learns from those that finished."""

    def predict(self, key: Hashable, size: int) -> float:
        """Return the seconds that a run of so many payloads will take; 0 if unknown."""

    def worthwhile(self, key: Hashable, most: int, overhead: float) -> int:
        """Return the batch size beyond which each payload costs hardly less; at most `most`.

        `overhead` seconds come on top of every run.
        """

    def learn(self, key: Hashable, size: int, seconds: float) -> None:
        """A run of so many payloads took so many seconds."""


class Forecast:
    """Predicts by `cost`, for batches of at most `most` payloads.

    `size(key)` is how large a batch may be, `seconds(key, size)` what a run takes and what comes on
    top: a busy event loop is late to see that it ended. `weight(key)` tells who should run it.
    """

    def __init__(self, cost: Cost, most: int) -> None:
        self._cost = cost
        self._most = most
        self._lag = 0.0
        self._learned = 0
        self._trusting = False
        self._predict = lru_cache(KEYS)(self._run_seconds)
        self.size = lru_cache(KEYS)(self._size)
        self.seconds = lru_cache(KEYS)(self._seconds)
        self.weight = lru_cache(KEYS)(self._weight)

    def trust(self, trusting: bool) -> None:
        """Believe from now on, or no more, that what takes little time goes on to."""
        self._trusting = trusting
        self._forget()

    def learn(self, key: Hashable, size: int, seconds: float) -> None:
        """A run of so many payloads took so long."""
        self._cost.learn(key, size, seconds)
        self._learned += 1
        expected = self._predict(key, size)
        if self._learned >= FRESH or abs(seconds - expected) > SURPRISE * expected:
            self._forget()

    def lagged(self, seconds: float) -> None:
        """What was made of a run came so much after it; counts when predictions are new."""
        self._lag += SMOOTHING * (seconds - self._lag)

    def overdue(self, key: Hashable, size: int, seconds: float) -> bool:
        """Tell whether so many seconds are more than was expected of such a run."""
        return seconds > self._predict(key, size)

    def _size(self, key: Hashable) -> int:
        size = self._cost.worthwhile(key, self._most, self._lag + HANDING_OVER)
        if self.weight(key) is Weight.SHORT:
            while size > FEW and self._predict(key, size) > HANDING_OVER:
                size //= 2
        return size

    def _run_seconds(self, key: Hashable, size: int) -> float:
        return self._cost.predict(key, size)

    def _seconds(self, key: Hashable, size: int) -> float:
        return self._predict(key, size) + self._lag if size else 0.0

    def _weight(self, key: Hashable) -> Weight:
        return weight(self._predict(key, FEW), self._trusting)

    def _forget(self) -> None:
        self._learned = 0
        for remembered in (self._predict, self.size, self.seconds, self.weight):
            remembered.cache_clear()
