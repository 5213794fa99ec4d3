import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.capacity import FULLEST, RequestCost, erlang_c, fullness, option, wait99

seconds = st.floats(1e-4, 1.0)
servers = st.integers(1, 32)
loads = st.floats(0.01, 0.99)


@given(loads)
def test_with_one_server_who_comes_waits_as_often_as_it_is_busy(load: float) -> None:
    assert erlang_c(1, load) == pytest.approx(load)


@given(loads)
def test_two_servers_as_in_the_textbook(load: float) -> None:
    assert erlang_c(2, load) == pytest.approx(2 * load**2 / (1 + load))


@given(loads, seconds)
def test_with_one_server_the_wait_is_that_of_m_m_1(load: float, service: float) -> None:
    # P(W > t) = ρ exp(-(1 - ρ) t / s)
    wait = wait99(service, 1, load)
    late = load * math.exp(-(1 - load) * wait / service)
    assert late == pytest.approx(min(load, 0.01), rel=1e-6)


@given(seconds, servers, st.floats(0, 10))
def test_a_queue_is_as_full_as_patience_allows(service: float, count: int, patience: float) -> None:
    load = fullness(service, count, patience)
    assert 0 <= load <= FULLEST
    assert wait99(service, count, load) <= patience * (1 + 1e-9)
    if load < FULLEST:
        assert wait99(service, count, load + 1e-6) >= patience


@given(seconds, st.floats(0.01, 1), servers, st.floats(0.1, 1e5), st.floats(1e-3, 10))
def test_the_replicas_are_enough_and_no_more(
    cpu: float, share: float, cores: int, rps: float, patience: float
) -> None:
    found = option(RequestCost(cpu, share * cpu, 0, 0), cpu, cores, rps, cpu + patience)
    assert found.takes <= found.saturation * FULLEST * (1 + 1e-9)
    assert found.saturation <= 1 / (share * cpu) * (1 + 1e-9)
    assert found.replicas * found.takes >= rps * (1 - 1e-9)
    assert (found.replicas - 1) * found.takes < rps
