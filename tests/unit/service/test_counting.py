"""Our counters and histograms say what Prometheus' own library says."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from convserve.counting import Counter, Histogram

numbers = st.floats(0, 1e6)


def samples(registry: CollectorRegistry) -> list[object]:
    """Return all samples but the times of creation, which no dashboard asks for."""
    return [
        (sample.name, sample.labels, sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]


@given(
    bounds=st.lists(numbers, min_size=1, max_size=9, unique=True).map(sorted),
    values=st.lists(numbers | st.sampled_from([0.5, 1.0, 2.0]), max_size=50),
)
def test_histograms(bounds: list[float], values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("seconds", "How long.", ["model"], bounds, ours).labels("net")
    other = prometheus_client.Histogram(
        "seconds", "How long.", ["model"], buckets=bounds, registry=theirs
    ).labels("net")
    for value in values:
        mine.observe(value)
        other.observe(value)
    assert samples(ours) == samples(theirs)


@given(statuses=st.lists(st.sampled_from([200, 429, 504])))
def test_counters(statuses: list[int]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Counter("requests", "How many.", ["model", "status"], ours)
    other = prometheus_client.Counter("requests", "How many.", ["model", "status"], registry=theirs)
    for status in (200, *statuses):
        mine.labels("net", status).inc()
        other.labels("net", status).inc()
    assert samples(ours) == samples(theirs)


def test_what_has_not_happened_yet_is_told_as_0() -> None:
    registry = CollectorRegistry()
    Counter("requests", "How many.", ["model"], registry).labels("net")
    Histogram("seconds", "How long.", ["model"], [1.0], registry).labels("net")
    assert registry.get_sample_value("requests_total", {"model": "net"}) == 0
    assert registry.get_sample_value("seconds_count", {"model": "net"}) == 0
