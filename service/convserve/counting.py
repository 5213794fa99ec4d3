"""Counters and histograms that cost next to nothing until somebody asks for them.

Prometheus' own lock, check and sum at every event: a tenth of what refusing a request takes. These
belong to one thread, the event loop's.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Count:
    """How often something happened."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """It happened once more."""
        self.value += 1


class Distribution:
    """Values by the first of the ascending `bounds` that they do not exceed, and their sum.

    `observe` keeps a value until `read` counts all that are kept: together takes a fraction of the
    time. Whoever observes sees to it that somebody reads now and then.
    """

    __slots__ = ("_bounds", "_counts", "_kept", "_total", "observe")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = np.zeros(len(bounds) + 1, int)
        self._total = 0.0
        self._kept: list[float] = []
        self.observe = self._kept.append

    def read(self) -> tuple[list[int], float]:
        """Return how many values there were for each bound, and beyond the last, and their sum."""
        places = np.searchsorted(self._bounds, self._kept)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._total = sum(self._kept, self._total)
        self._kept.clear()
        return self._counts.tolist(), self._total


T = TypeVar("T", Count, Distribution)


class _Labelled(Collector, Generic[T]):
    """A metric in `registry`, with what `new` makes for each set of labels."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        new: Callable[[], T],
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._new: Callable[[], T] = new
        self._children: dict[tuple[str, ...], T] = {}
        registry.register(self)

    def labels(self, *values: object) -> T:
        """Return what counts under these labels; from now on it is told, if only as 0."""
        key = tuple(map(str, values))
        if key not in self._children:
            self._children[key] = self._new()
        return self._children[key]


class Counter(_Labelled[Count]):
    """A metric of Prometheus' type counter."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        super().__init__(name, text, labels, registry, Count)

    def collect(self) -> Iterator[Metric]:
        """Return the metric as it is now."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in [*self._children.items()]:
            family.add_metric(values, count.value)
        yield family


class Histogram(_Labelled[Distribution]):
    """A metric of Prometheus' type histogram, with the upper `bounds` of its buckets."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._names = [*map(_name, bounds), "+Inf"]
        super().__init__(name, text, labels, registry, partial(Distribution, bounds))

    def collect(self) -> Iterator[Metric]:
        """Return the metric as it is now."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, distribution in [*self._children.items()]:
            counts, total = distribution.read()
            buckets = zip(self._names, accumulate(counts), strict=True)
            family.add_metric(values, [*buckets], total)
        yield family


def _name(bound: float) -> str:
    """Return a bound as Prometheus' own libraries write it."""
    name: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
    return name
