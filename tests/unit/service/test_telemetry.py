import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from convserve.engine.cpu import Throttling
from convserve.telemetry import REASONS, STAGES, ModelMetrics, Telemetry, Trace


def samples(telemetry: Telemetry) -> dict[str, float]:
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in families
        for sample in family.samples
    }


def test_of_instances_side_by_side_the_slowest_counts() -> None:
    trace = Trace("id")
    for seconds in (0.002, 0.005, 0.001):
        trace.span("queue", seconds)
    assert re.fullmatch(rb"queue;dur=5\.000, total;dur=\d+\.\d{3}", trace.server_timing())


def test_every_application_has_metrics_of_its_own() -> None:
    one, other = Telemetry(), Telemetry()
    ModelMetrics(one, "m", "1").answered(200, 0.01, {})
    assert samples(one)["convserve_requests_total['1', '200', 'm']"] == 1
    assert not any("requests" in name for name in samples(other))


def test_the_batcher_is_told_in_metrics() -> None:
    telemetry = Telemetry()
    metrics = ModelMetrics(telemetry, "m", "1")
    metrics.watch_queue(lambda: 3)
    metrics.batch_started(4)
    metrics.batch_finished(4, 0.2)
    metrics.cancelled("queue")
    for reason in ("inference_failed", "queue_full", "queue_full"):
        metrics.dropped(reason)
    found = samples(telemetry)
    assert found["convserve_queue_depth['1', 'm']"] == 3
    assert found["convserve_batch_size_sum['1', 'm']"] == 4
    assert found["convserve_inference_duration_seconds_sum['1', 'm']"] == pytest.approx(0.2)
    assert found["convserve_cancelled_total['1', 'm', 'queue']"] == 1
    assert found["convserve_batch_item_errors_total['1', 'm']"] == 1
    assert found["convserve_rejected_total['1', 'm', 'queue_full']"] == 2


def test_counters_are_there_before_they_count() -> None:
    telemetry = Telemetry(["queue_full"])
    ModelMetrics(telemetry, "m", "1")
    found = samples(telemetry)
    for reason in REASONS:
        assert found[f"convserve_rejected_total{sorted(['1', 'm', reason])}"] == 0
    for stage in STAGES:
        assert found[f"convserve_cancelled_total{sorted(['1', 'm', stage])}"] == 0
    assert found["convserve_errors_total['queue_full']"] == 0


def test_a_queue_is_told_of_until_its_last_model_is_gone() -> None:
    telemetry, name = Telemetry(), "convserve_queue_depth['1', 'm']"
    old, new = ModelMetrics(telemetry, "m", "1"), ModelMetrics(telemetry, "m", "1")
    old.watch_queue(lambda: 3)
    old.in_service("digest", "float")
    new.watch_queue(lambda: 4)
    new.in_service("another digest", "int8")
    old.unloaded("digest", "float")
    assert samples(telemetry)[name] == 4
    new.unloaded("another digest", "int8")
    assert samples(telemetry)[name] == 0


def test_throttling_is_read_at_every_scrape() -> None:
    readings = iter([Throttling(10, 2, 1.5), Throttling(20, 3, 2.5)])
    telemetry = Telemetry()
    telemetry.watch_throttling(lambda: next(readings))
    for periods, throttled, seconds in ((10, 2, 1.5), (20, 3, 2.5)):
        found = samples(telemetry)
        assert found["convserve_cfs_periods_total[]"] == periods
        assert found["convserve_cfs_throttled_periods_total[]"] == throttled
        assert found["convserve_cfs_throttled_seconds_total[]"] == seconds


def test_the_store_is_told_state_by_state() -> None:
    telemetry = Telemetry()
    states = [("m", "1", "ready", True), ("m", "1", "failed", False)]
    telemetry.watch_store(lambda: False, lambda: states)
    found = samples(telemetry)
    assert found["convserve_ready[]"] == 0
    assert found["convserve_model_state['1', 'm', 'ready']"] == 1
    assert found["convserve_model_state['1', 'failed', 'm']"] == 0
