import math
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.engine.cost import (
    GAIN,
    RUNS,
    SHAPES,
    WINDOW,
    CostModel,
    Point,
    batch_sizes,
    monotone,
)

seconds = st.floats(1e-6, 1e3)
runs = st.lists(st.tuples(st.integers(1, 32), seconds), min_size=1, max_size=200)


def learned(runs: list[tuple[int, float]], key: str = "shape") -> CostModel:
    cost = CostModel()
    for size, taken in runs:
        cost.learn(key, size, taken)
    return cost


def test_before_any_run_nothing_is_predicted() -> None:
    assert CostModel().predict("shape", 8) == 0
    assert CostModel().points() == {}


@given(runs)
def test_a_larger_batch_never_costs_less(runs: list[tuple[int, float]]) -> None:
    cost = learned(runs)
    curve = [cost.predict("shape", size) for size in range(65)]
    assert curve[0] == 0
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(curve))
    assert curve[1] > 0
    assert max(curve[:33]) <= max(taken for _, taken in runs) * 33  # nothing is made up


@given(size=st.integers(1, 32), taken=st.lists(seconds, min_size=1, max_size=60))
def test_of_one_size_it_predicts_the_median_of_the_newest(size: int, taken: list[float]) -> None:
    cost = learned([(size, one) for one in taken])
    assert cost.predict("shape", size) == pytest.approx(median(taken[-WINDOW:]))
    assert cost.points()["shape"] == [
        Point(size, pytest.approx(median(taken[-WINDOW:])), len(taken))  # type: ignore[arg-type]
    ]


@given(fixed=st.floats(0, 1), each=st.floats(1e-3, 1), outliers=st.lists(seconds, max_size=7))
def test_outliers_do_not_move_it(fixed: float, each: float, outliers: list[float]) -> None:
    sizes = (1, 2, 4, 8, 16)
    clean = [(size, fixed + each * size) for size in sizes] * (WINDOW - len(outliers))
    cost = learned([*clean, *((size, value) for size in sizes for value in outliers)])
    for size in range(1, 17):
        assert cost.predict("shape", size) == pytest.approx(fixed + each * size)
    assert cost.predict("shape", 32) == pytest.approx(2 * (fixed + each * 16))  # in proportion


@given(
    fixed=st.floats(0, 1),
    each=st.floats(1e-3, 1),
    overhead=st.floats(0, 1),
    most=st.integers(1, 64),
)
def test_a_batch_is_as_small_as_costs_hardly_more(
    fixed: float, each: float, overhead: float, most: int
) -> None:
    sizes = batch_sizes(most)
    cost = learned([(size, fixed + each * size) for size in sizes] * RUNS)
    found = cost.worthwhile("shape", most, overhead)
    shares = {size: (fixed + overhead) / size + each for size in sizes}
    assert shares[found] <= (1 + GAIN) * shares[most] * (1 + 1e-9)
    assert all(share >= (1 + GAIN) * shares[most] for size, share in shares.items() if size < found)


def test_what_is_not_known_limits_no_batch() -> None:
    assert CostModel().worthwhile("shape", 24, 0.0) == 24


def test_a_batch_grows_when_single_runs_turn_out_dear() -> None:
    cost = learned([(1, 0.1), (8, 0.8)] * WINDOW)
    assert cost.worthwhile("shape", 8, 0.0) == 1
    for _ in range(WINDOW):
        cost.learn("shape", 1, 0.4)
    assert cost.worthwhile("shape", 8, 0.0) == 8


def test_larger_batches_are_tried_before_they_are_given_up() -> None:
    cost = learned([(1, 0.1), (2, 0.2)] * (RUNS - 1))
    assert cost.worthwhile("shape", 8, 0.0) == 8
    cost.learn("shape", 1, 0.1)
    assert cost.worthwhile("shape", 8, 0.0) == 8
    cost.learn("shape", 2, 0.2)
    assert cost.worthwhile("shape", 8, 0.0) == 1


def test_it_follows_a_machine_that_slows_down() -> None:
    cost = learned([(4, 0.1)] * 1000 + [(4, 0.3)] * WINDOW)
    assert cost.predict("shape", 4) == pytest.approx(0.3)


def test_shapes_are_learned_apart_and_a_new_one_is_like_the_last() -> None:
    cost = learned([(1, 1.0)], "small")
    cost.learn("large", 1, 9.0)
    assert (cost.predict("small", 1), cost.predict("large", 1)) == (1.0, 9.0)
    assert cost.predict("new", 1) == 9.0
    cost.learn("small", 1, 1.0)
    assert cost.predict("new", 1) == 1.0


def test_the_shapes_it_remembers_are_bounded() -> None:
    cost = CostModel()
    for shape in range(10 * SHAPES):
        cost.learn(shape, 1, float(shape))
    assert list(cost.points()) == list(range(9 * SHAPES, 10 * SHAPES))


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 15)), max_size=30))
def test_pooling_is_the_nearest_monotone_fit(points: list[tuple[float, float]]) -> None:
    fit = monotone(points)
    assert len(fit) == len(points)
    assert all(a <= b for a, b in pairwise(fit))
    # The conditions that single the nearest fit out: the residuals of every beginning sum to at
    # least 0, those of the whole to 0.
    sums = [0.0]
    for (value, weight), fitted in zip(points, fit, strict=True):
        sums.append(sums[-1] + weight * (value - fitted))
    assert min(sums) >= -1e-6
    assert math.isclose(sums[-1], 0, abs_tol=1e-6)
