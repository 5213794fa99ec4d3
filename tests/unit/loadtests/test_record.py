"""The load test's bookkeeping: nothing is counted twice, late answers do not look fast."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.plan import Plan
from loadtests.record import QUANTILES, TOTAL, Record, Thresholds, quantile

PLAN = Plan("open", (10.0, 20.0, 30.0), seconds=4.0, settle=1.0)
requests = st.lists(
    st.tuples(
        st.sampled_from(["image", "text"]),
        st.floats(0, 15),
        st.floats(0.001, 5),
        st.sampled_from([None, "status 429"]),
    )
)


def recorded(plan: Plan, entries: list[tuple[str, float, float, str | None]]) -> Record:
    record = Record(plan)
    for entry in entries:
        record.add(*entry)
    return record


@given(requests)
def test_total_is_the_sum_of_the_models(
    entries: list[tuple[str, float, float, str | None]],
) -> None:
    for step in recorded(PLAN, entries).steps():
        figures = dict(step["models"])
        total = figures.pop(TOTAL, {"requests": 0})
        assert total["requests"] == sum(f["requests"] for f in figures.values())


@given(requests)
def test_a_request_counts_in_one_step_and_not_while_it_settles(
    entries: list[tuple[str, float, float, str | None]],
) -> None:
    counted = sum(due < 12 and due % 4 >= 1 for _, due, _, _ in entries)
    steps = recorded(PLAN, entries).steps()
    assert counted == sum(s["models"].get(TOTAL, {"requests": 0})["requests"] for s in steps)


def test_a_late_answer_counts_where_it_comes_and_its_latency_where_it_was_due() -> None:
    first, second, _ = recorded(PLAN, [("image", 3.0, 3.0, None)]).steps()
    assert (first["models"][TOTAL]["p99"], first["models"][TOTAL]["throughput"]) == (3000, 0)
    assert (second["models"][TOTAL]["p99"], second["models"][TOTAL]["throughput"]) == (None, 0.3)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from(list(QUANTILES.values())))
def test_quantile_has_its_share_at_or_below(values: list[float], q: float) -> None:
    values = [round(value, 2) for value in sorted(values)]
    found = quantile(values, q)
    assert found in values
    assert sum(value <= found for value in values) >= math.floor(q * len(values))


@pytest.mark.parametrize(
    ("thresholds", "word"),
    [
        (Thresholds(max_p99=99), "p99"),
        (Thresholds(min_throughput=1), "throughput"),
        (Thresholds(max_failure_ratio=0.49), "failed"),
    ],
)
def test_each_threshold_can_be_missed_and_met(thresholds: Thresholds, word: str) -> None:
    bad = recorded(PLAN, [("image", 1.5, 0.1, None), ("image", 1.5, 0.1, "status 500")])
    good = recorded(
        PLAN, [("image", 1.0 + i * 0.5 + 4 * k, 0.05, None) for i in range(6) for k in range(3)]
    )
    assert [word in sentence for sentence in thresholds.missed(bad.steps())] == [True]
    assert not list(thresholds.missed(good.steps()))


def test_a_run_without_requests_is_no_success() -> None:
    assert list(Thresholds().missed(Record(PLAN).steps()))


def test_arrivals_keep_the_rates_of_their_steps() -> None:
    plan = Plan("open", (200.0, 800.0), seconds=10.0, settle=0.0)
    due = list(plan.arrivals())
    assert all(a <= b for a, b in pairwise(due))
    for step, rate in enumerate(plan.loads):
        count = sum(plan.step_at(t) == step for t in due)
        assert abs(count - rate * plan.seconds) < 8 * math.sqrt(rate * plan.seconds)
