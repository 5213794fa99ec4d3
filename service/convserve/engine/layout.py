"""How a model's runs share the cores: side by side, or one after the other on all of them.

Neither is always better: small convolutions gain nothing from more threads, large matrices gain
nothing from running side by side. So both are tried.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from statistics import median
from time import perf_counter

from convserve.engine.cores import Cores, Seat

TRIAL_SECONDS = 0.05  # a trial shorter than this measures the clock
# By how much all cores together must win. In service their threads wait for each other whenever
# the event loop takes a core: what was 10 % faster in a trial then answered a sixth less.
MARGIN = 1.25


@dataclass(frozen=True, slots=True)
class Layout:
    """So many runs at once, each on so many threads."""

    executors: int
    threads: int

    def __str__(self) -> str:
        return f"{self.executors} at once on {self.threads} thread{'s' * (self.threads > 1)} each"


@dataclass(frozen=True, slots=True)
class Trial:
    """What a layout achieved with batches of one size."""

    layout: Layout
    batch_size: int
    items_per_second: float

    def __str__(self) -> str:
        return f"{self.layout}: {self.items_per_second:.0f} items/s by {self.batch_size}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A layout, why, and the trials that it follows from (none: not measured)."""

    layout: Layout
    reason: str
    trials: tuple[Trial, ...] = ()


def layouts(cores: int) -> list[Layout]:
    """Return what can be chosen from, the usual first: every core by itself, all together."""
    return [Layout(cores, 1)] + [Layout(1, cores)] * (cores > 1)


def attempt(
    run: Callable[[], object], layout: Layout, batch_size: int, cores: Cores | None = None
) -> Trial:
    """Try a layout: `run` runs one batch on its threads; blocks, and takes all cores.

    The runs spread over the `cores` as those for requests will.
    """
    cores = cores or Cores()
    with ThreadPoolExecutor(layout.executors) as pool:
        seconds = _together(run, pool, cores, layout.executors, 1)
        repeats = ceil(TRIAL_SECONDS / seconds)
        seconds = _together(run, pool, cores, layout.executors, repeats)
    return Trial(layout, batch_size, layout.executors * repeats * batch_size / seconds)


def medians(rounds: Iterable[Trial]) -> tuple[Trial, ...]:
    """Return one trial per layout and batch size, from any number of each."""
    found: dict[tuple[Layout, int], list[float]] = {}
    for trial in rounds:
        found.setdefault((trial.layout, trial.batch_size), []).append(trial.items_per_second)
    return tuple(Trial(*what, median(rates)) for what, rates in found.items())


def choose(trials: Sequence[Trial]) -> Choice:
    """Choose from trials of at least one layout, the usual one's first."""
    best: dict[Layout, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.items_per_second):
        best[trial.layout] = trial
    usual = best[trials[0].layout]
    fastest = max(best.values(), key=lambda trial: trial.items_per_second)
    winner = fastest if fastest.items_per_second > MARGIN * usual.items_per_second else usual
    return Choice(winner.layout, "; ".join(map(str, best.values())), tuple(trials))


def _together(
    run: Callable[[], object], pool: ThreadPoolExecutor, cores: Cores, executors: int, repeats: int
) -> float:
    def work(_: int) -> None:
        seat = Seat(cores)
        for _ in range(repeats):
            with seat:
                run()

    started = perf_counter()
    list(pool.map(work, range(executors)))
    return perf_counter() - started
