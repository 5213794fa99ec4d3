"""What a run costs: t(batch, shape), learned from every run that finishes.

For each shape and batch size the median of the newest runs (robust: up to half of them may be
outliers), pooled so that a larger batch never costs less (isotonic regression by pooling adjacent
violators: Ayer et al., 1955), joined by straight lines from the origin.
"""

from bisect import bisect_left
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

WINDOW = 15  # runs of one batch size that are remembered
# Of a payload's cost: for less, none of them waits for more to join its batch. At 0.05, batches of
# texts were so small that handing them over took a sixth of all answers.
GAIN = 0.01
RUNS = 3  # after which a batch size is compared with others
SHAPES = 64  # shapes that are remembered, the ones learned last


@dataclass(frozen=True, slots=True)
class Point:
    """A run of `batch_size` takes `seconds`, after `n` measurements."""

    batch_size: int
    seconds: float
    n: int


class CostModel:
    """Predicts how long a run takes. Knows nothing at first, and then predicts 0."""

    def __init__(self) -> None:
        self._curves: OrderedDict[Hashable, _Curve] = OrderedDict()

    def learn(self, key: Hashable, size: int, seconds: float) -> None:
        """A run of `size` payloads of the shape `key` took so many seconds."""
        if key not in self._curves:
            self._curves[key] = _Curve()
        self._curves.move_to_end(key)
        self._curves[key].learn(size, seconds)
        if len(self._curves) > SHAPES:
            self._curves.popitem(last=False)

    def predict(self, key: Hashable, size: int) -> float:
        """Return the seconds that a run will take; 0 before anything was measured.

        A shape that is new is taken to cost what the shape learned last costs.
        """
        curve = self._curve(key)
        return curve.predict(size) if curve else 0.0

    def worthwhile(self, key: Hashable, most: int, overhead: float) -> int:
        """Return the batch size, up to `most`, beyond which each payload costs hardly less.

        `overhead` seconds come on top of every run. It is `most` until a larger batch was tried
        and gained nothing.
        """
        curve = self._curve(key)
        return curve.worthwhile(most, overhead) if curve else most

    def _curve(self, key: Hashable) -> "_Curve | None":
        return self._curves.get(key) or next(reversed(self._curves.values()), None)

    def forget(self) -> None:
        """Know nothing again: runs are made in another way from now on."""
        self._curves.clear()

    def points(self) -> dict[Hashable, list[Point]]:
        """Return what was measured, by shape, in order of batch size."""
        return {key: curve.points() for key, curve in self._curves.items()}


class _Curve:
    """t(batch) of one shape."""

    def __init__(self) -> None:
        self._recent = defaultdict[int, deque[float]](lambda: deque(maxlen=WINDOW))
        self._learned = Counter[int]()
        self._sizes: list[int] = [0]
        self._seconds: list[float] = [0.0]
        self._fitted = True

    def learn(self, size: int, seconds: float) -> None:
        self._recent[size].append(seconds)
        self._learned[size] += 1
        self._fitted = False

    def _fit(self) -> None:
        """Draw the curve through what was learned, once somebody asks."""
        if self._fitted:
            return
        sizes = sorted(self._recent)
        medians = [(median(self._recent[size]), len(self._recent[size])) for size in sizes]
        self._sizes, self._seconds = [0, *sizes], [0.0, *monotone(medians)]
        self._fitted = True

    def worthwhile(self, most: int, overhead: float) -> int:
        self._fit()
        return min(most, self._smallest(overhead) or most)

    def _smallest(self, overhead: float) -> int | None:
        """Return the smallest size with nearly the least cost, None if that is the largest."""
        costs = [
            ((seconds + overhead) / size, size)
            for size, seconds in zip(self._sizes, self._seconds, strict=True)
            if size and len(self._recent[size]) >= RUNS
        ]
        enough = (1 + GAIN) * min(costs, default=(0.0, 0))[0]
        return next((size for cost, size in costs[:-1] if cost <= enough), None)

    def predict(self, size: int) -> float:
        self._fit()
        place = bisect_left(self._sizes, size)
        if place == len(self._sizes):  # beyond what was measured: in proportion
            return self._seconds[-1] * size / self._sizes[-1]
        if self._sizes[place] == size:
            return self._seconds[place]
        (low, high), (least, most) = (
            values[place - 1 : place + 1] for values in (self._sizes, self._seconds)
        )
        return least + (most - least) * (size - low) / (high - low)

    def points(self) -> list[Point]:
        self._fit()
        return [
            Point(size, seconds, self._learned[size])
            for size, seconds in zip(self._sizes[1:], self._seconds[1:], strict=True)
        ]


def batch_sizes(largest: int) -> list[int]:
    """Return 1, 2, 4 … and the largest."""
    return sorted({min(2**power, largest) for power in range(largest.bit_length() + 1)})


def median(values: Collection[float]) -> float:
    """Return the middle of some values, halfway between both where there are two.

    Asked many times a second: statistics.median takes three times as long.
    """
    ordered, half = sorted(values), len(values) // 2
    return (ordered[half] + ordered[~half]) / 2


def monotone(points: Sequence[tuple[float, float]]) -> list[float]:
    """Return the non-decreasing values nearest, in squares, to (value, weight) `points`."""
    values = [value for value, _ in points]
    if values == sorted(values):
        return values
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many points
    for value, weight in points:
        mean, heft, members = value, weight, 1
        while pools and pools[-1][0] >= mean:
            other, more, others = pools.pop()
            mean = (other * more + mean * heft) / (more + heft)
            heft, members = heft + more, members + others
        pools.append((mean, heft, members))
    return [mean for mean, _, members in pools for _ in range(members)]
