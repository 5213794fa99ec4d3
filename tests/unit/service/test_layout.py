import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.engine.layout import MARGIN, Layout, Trial, attempt, choose, layouts, medians

SIDE, WIDE = Layout(4, 1), Layout(1, 4)


def test_one_core_leaves_no_choice() -> None:
    assert layouts(1) == [Layout(1, 1)]
    assert layouts(4) == [SIDE, WIDE]


@given(
    side=st.lists(st.floats(1, 1000), min_size=1, max_size=3),
    wide=st.lists(st.floats(1, 1000), max_size=3),
)
def test_all_cores_together_must_win_by_a_margin(side: list[float], wide: list[float]) -> None:
    trials = [Trial(SIDE, size, rate) for size, rate in enumerate(side, 1)]
    trials += [Trial(WIDE, size, rate) for size, rate in enumerate(wide, 1)]
    choice = choose(trials)
    assert (choice.layout == WIDE) is (max(wide, default=0) > MARGIN * max(side))
    assert f"{max(side):.0f} items/s" in choice.reason
    assert choice.trials == tuple(trials)


def test_one_disturbed_round_decides_nothing() -> None:
    rounds = [Trial(SIDE, 8, rate) for rate in (100, 101, 9)]
    rounds += [Trial(WIDE, 8, rate) for rate in (80, 500, 81)]
    assert medians(rounds) == (Trial(SIDE, 8, 100), Trial(WIDE, 8, 81))


@pytest.mark.parametrize("layout", [SIDE, WIDE])
def test_a_trial_keeps_all_executors_busy(layout: Layout) -> None:
    runs: Counter[int] = Counter()

    def run() -> None:
        time.sleep(0.01)
        runs[threading.get_ident()] += 1

    rate = attempt(run, layout, 5).items_per_second
    assert len(runs) == layout.executors
    ideal = layout.executors * 5 / 0.01
    assert 0.2 * ideal < rate <= ideal
