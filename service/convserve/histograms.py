"""Histograms that cost next to nothing until somebody asks: no locks, no sums over buckets."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Distribution:
    """Values by bucket, and their sum; for one thread."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value in the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Histogram(Collector):
    """A metric of Prometheus' type histogram: a distribution for each set of labels.

    `bounds` ascend; what exceeds them all is counted, too.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = bounds
        self._names = [*map(_name, bounds), "+Inf"]
        self._distributions: dict[tuple[str, ...], Distribution] = {}
        registry.register(self)

    def labels(self, *values: str) -> Distribution:
        """Return the distribution with these labels, which is empty at first."""
        return self._distributions.setdefault(values, Distribution(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """Return the metric as it is now."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, distribution in [*self._distributions.items()]:
            buckets = zip(self._names, accumulate(distribution.counts), strict=True)
            family.add_metric(values, [*buckets], distribution.sum)
        yield family


def _name(bound: float) -> str:
    """Return a bound as Prometheus' own libraries write it."""
    name: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
    return name
