"""Histograms say what prometheus_client's own say."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from convserve.histograms import Histogram

numbers = st.floats(0, 1e6)


@given(
    bounds=st.lists(numbers, min_size=1, max_size=9, unique=True).map(sorted),
    values=st.lists(numbers | st.sampled_from([0.5, 1.0, 2.0]), max_size=50),
)
def test_equal_to_the_library(bounds: list[float], values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("seconds", "How long.", ["model"], bounds, ours).labels("net")
    other = prometheus_client.Histogram(
        "seconds", "How long.", ["model"], buckets=bounds, registry=theirs
    ).labels("net")
    for value in values:
        mine.observe(value)
        other.observe(value)
    assert samples(ours) == samples(theirs)


def samples(registry: CollectorRegistry) -> list[object]:
    """Return all samples but the times of creation, which no dashboard asks for."""
    return [
        (sample.name, sample.labels, sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]


def test_a_distribution_is_there_before_it_counts() -> None:
    registry = CollectorRegistry()
    Histogram("seconds", "How long.", ["model"], [1.0], registry).labels("net")
    assert registry.get_sample_value("seconds_count", {"model": "net"}) == 0
