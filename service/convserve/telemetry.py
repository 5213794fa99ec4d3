"""What the service tells about itself: metrics, and the timing of each request."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from contextvars import Token
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from operator import mul
from time import perf_counter
from typing import Protocol, Self

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from convserve.counting import Counter, Histogram
from convserve.logs import REQUEST_ID
from convserve.statistics import Spans, Statistics

SECONDS = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)  # fmt: skip
MODEL = ("model", "version")
REASONS = ("queue_full", "deadline_unmeetable", "deadline_exceeded", "draining")
MILLI = partial(mul, 1e3)
STAGES = ("body", "preprocess", "queue", "inference")


class Telemetry:
    """The metrics of one service, in a registry of its own; times in seconds, sizes in bytes.

    `codes` are those of the problems that callers may be told.
    """

    def __init__(self, codes: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.serving = Tally[tuple[str, ...]]()
        ProcessCollector(registry=self.registry)
        self.requests = self._counter("requests", "Answered requests.", (*MODEL, "status"))
        self.request_seconds = self._seconds("request", "Request, from its headers to its answer.")
        self.preprocess_seconds = self._seconds("preprocess", "Raw bytes to arrays.")
        self.queue_seconds = self._seconds("queue", "Waiting for a place in a batch.")
        self.inference_seconds = self._seconds("inference", "Run of a batch.")
        self.batch_size = Histogram(
            "convserve_batch_size",
            "Inputs that shared a run.",
            MODEL,
            [2**power for power in range(9)],
            self.registry,
        )
        self.queue_depth = self._gauge("queue_depth", "Inputs that wait.", MODEL)
        self.queue_capacity = self._gauge("queue_capacity", "Inputs that may wait.", MODEL)
        self.rejected = self._counter("rejected", "Inputs without an answer.", (*MODEL, "reason"))
        self.cancelled = self._counter(
            "cancelled", "Inputs whose client left, by what was done for them.", (*MODEL, "stage")
        )
        self.item_errors = self._counter("batch_item_errors", "Inputs the model failed on.", MODEL)
        self.errors = self._counter("errors", "Problems that callers were told.", ("code",))
        self.error = cache(self.errors.labels)
        for code in codes:
            self.error(code)
        self.in_flight_bytes = self._gauge("in_flight_bytes", "Request bodies and unpacked pixels.")
        self.in_flight_limit = self._gauge("in_flight_limit_bytes", "What they may take together.")
        self.model_info = self._gauge(
            "model_info", "Models in service.", (*MODEL, "sha256", "graph")
        )
        self.unloaded = self._counter("model_unloads", "Models that went out of service.", MODEL)
        self.no_room = self._counter("model_no_room", "Loads refused for want of memory.", MODEL)
        self.memory_limit = self._gauge("memory_limit_bytes", "Memory that the container may use.")
        self.memory_budget = self._gauge(
            "memory_budget_bytes", "Resident memory above which models are unloaded."
        )
        self.cpu_limit = self._gauge("cpu_limit_cores", "CPU cores that the service may use.")

    def watch_throttling(self, read: Callable[[], "Throttled"]) -> None:
        """Tell at every scrape how far the CPU quota has held the service up."""
        self.registry.register(_AtScrape(lambda: _throttling(read())))

    def watch_store(
        self, ready: Callable[[], bool], states: Callable[[], Iterable[tuple[str, str, str, bool]]]
    ) -> None:
        """Tell at every scrape whether all is ready, and (model, version, state, whether it is)."""
        self.registry.register(_AtScrape(lambda: _store(ready(), states())))

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _seconds(self, name: str, text: str) -> Histogram:
        name = f"convserve_{name}_duration_seconds"
        return Histogram(name, text, MODEL, SECONDS, self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"convserve_{name}", text, labels, self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"convserve_{name}", text, labels, registry=self.registry)


class Throttled(Protocol):
    """What the CPU quota has cost so far: periods, those cut short, and seconds of standstill."""

    @property
    def periods(self) -> int: ...  # noqa: D102
    @property
    def throttled(self) -> int: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102


class _AtScrape(Collector):
    """What others keep count of, read when asked."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _throttling(now: Throttled) -> Iterator[Metric]:
    for name, text, value in (
        ("periods", "Periods of the CPU quota.", now.periods),
        ("throttled_periods", "Periods that the CPU quota cut short.", now.throttled),
        ("throttled_seconds", "Standstill that the CPU quota has cost.", now.seconds),
    ):
        yield CounterMetricFamily(f"convserve_cfs_{name}", text, value)


def _store(ready: bool, states: Iterable[tuple[str, str, str, bool]]) -> Iterator[Metric]:
    text = "Whether every required model may be asked, as /readyz says."
    yield GaugeMetricFamily("convserve_ready", text, ready)
    family = GaugeMetricFamily(
        "convserve_model_state", "1 for the state that it is in.", labels=(*MODEL, "state")
    )
    for *labels, current in states:
        family.add_metric(labels, current)
    yield family


class ModelMetrics:
    """The metrics of one model; watches its batcher."""

    def __init__(self, telemetry: Telemetry, model: str, version: str) -> None:
        self._telemetry = telemetry
        self.model, self.version = self._labels = model, version
        self.headers = (
            (b"x-model-name", model.encode()),
            (b"x-model-version", version.encode()),
        )
        self.request_seconds = telemetry.request_seconds.labels(*self._labels)
        self.preprocess_seconds = telemetry.preprocess_seconds.labels(*self._labels)
        self.queue_seconds = telemetry.queue_seconds.labels(*self._labels)
        self._inference_seconds = telemetry.inference_seconds.labels(*self._labels)
        self._batch_size = telemetry.batch_size.labels(*self._labels)
        self._distributions = (
            self.request_seconds,
            self.preprocess_seconds,
            self.queue_seconds,
            self._inference_seconds,
            self._batch_size,
        )
        # Finding the counter of a label costs several times what counting does.
        self._requests = cache(lambda status: telemetry.requests.labels(*self._labels, status))
        self._rejected = cache(lambda reason: telemetry.rejected.labels(*self._labels, reason))
        self._item_errors = telemetry.item_errors.labels(*self._labels)
        self._begin_at_zero()
        self.statistics = Statistics()

    def _begin_at_zero(self) -> None:
        """Let every counter be there before it counts: no rate misses the first event."""
        self._telemetry.requests.labels(*self._labels, "200")
        self._telemetry.unloaded.labels(*self._labels)
        for reason in REASONS:
            self._telemetry.rejected.labels(*self._labels, reason)
        for stage in STAGES:
            self._telemetry.cancelled.labels(*self._labels, stage)

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Tell at every scrape how many inputs wait."""
        self._telemetry.queue_depth.labels(*self._labels).set_function(waiting)

    def in_service(self, sha256: str, graph: str) -> None:
        """The model with this digest is in service from now on; `graph` is the one that answers."""
        self._telemetry.serving[*self._labels, sha256, graph] += 1
        self._telemetry.model_info.labels(*self._labels, sha256, graph).set(1)

    def unloaded(self, sha256: str, graph: str) -> None:
        """The model with this digest is in service no more."""
        serving = self._telemetry.serving
        serving[*self._labels, sha256, graph] -= 1
        if not serving[*self._labels, sha256, graph]:  # a successor may have the same
            del serving[*self._labels, sha256, graph]
            self._telemetry.model_info.remove(*self._labels, sha256, graph)
        if not any(served[:2] == self._labels for served in serving):
            self.watch_queue(int)  # nobody waits, and nothing of the model stays
        self._telemetry.unloaded.labels(*self._labels).inc()

    def answered(self, status: int, seconds: float, spans: Spans) -> None:
        """A request for the model was answered after so many seconds, of which the spans a part."""
        self._requests(status).value += 1
        self.request_seconds.observe(seconds)
        if self.statistics.answered(status, seconds, spans):
            self.statistics.read()
            for distribution in self._distributions:
                distribution.read()

    def batch_started(self, size: int) -> None:
        """A batch went to an executor."""
        self._batch_size.observe(size)

    def batch_finished(self, size: int, seconds: float) -> None:
        """A batch came back."""
        self._inference_seconds.observe(seconds)
        self.statistics.batch_finished(size, seconds)

    def dropped(self, reason: str) -> None:
        """One input ends without an answer."""
        if reason == "inference_failed":
            self._item_errors.inc()
        else:
            self._rejected(reason).inc()

    def cancelled(self, stage: str) -> None:
        """One input's client left, when so much was done for it."""
        self._telemetry.cancelled.labels(*self._labels, stage).inc()


@dataclass(slots=True)
class Trace:
    """One request: its id, which model it turned out to be for, and where its time went."""

    request_id: str
    metrics: ModelMetrics | None = None
    started: float = field(default_factory=perf_counter)
    spans: dict[str, float] = field(default_factory=dict)
    batch_size: int = 0
    _token: Token[str | None] = field(init=False, repr=False)

    def span(self, name: str, seconds: float) -> None:
        """Count a span; of instances side by side the slowest is what the caller waited for."""
        if seconds >= self.spans.get(name, 0.0):
            self.spans[name] = seconds

    def ran(self, queue_seconds: float, run_seconds: float, batch_size: int) -> None:
        """Count what came back from a batch: how long it waited, and ran."""
        self.span("queue", queue_seconds)
        self.span("inference", run_seconds)
        self.batch_size = max(self.batch_size, batch_size)

    def __enter__(self) -> Self:
        """Begin a block in which what is logged bears the request's id."""
        self._token = REQUEST_ID.set(self.request_id)
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        REQUEST_ID.reset(self._token)

    @property
    def seconds(self) -> float:
        """The time since the request came in."""
        return perf_counter() - self.started

    def server_timing(self) -> bytes:
        """Return the Server-Timing header (W3C), in milliseconds."""
        seconds = *self.spans.values(), self.seconds
        return _timing(tuple(self.spans)) % tuple(map(MILLI, seconds))

    def summary(self) -> dict[str, object]:
        """Return what a log line tells of it, times in seconds."""
        told: dict[str, object] = {
            "seconds": round(self.seconds, 6),
            "spans": {name: round(seconds, 6) for name, seconds in self.spans.items()},
        }
        if self.metrics:
            told |= {"model": self.metrics.model, "version": self.metrics.version}
            told["batch_size"] = self.batch_size
        return told


@lru_cache(maxsize=64)
def _timing(names: tuple[str, ...]) -> bytes:
    """Return the format of a Server-Timing header with these spans and the total."""
    return ", ".join(f"{name};dur=%.3f" for name in (*names, "total")).encode()
