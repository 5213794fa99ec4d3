"""Who runs what waits: the event loop, one executor, or all of them (docs/adr/0011 and 0012).

That hangs on what an input takes beside handing a batch to an executor and back, for which two
threads wake up and contend for the interpreter.
"""

import math
from collections.abc import Sequence
from enum import Enum, auto

HANDING_OVER = 0.00015  # seconds of CPU, at least
FEW = 4  # inputs, for which weights are told
# Fewer slight ones than so many share an executor, and wait for a run that ends so soon.
ENOUGH, SOON = 8, 0.002
# Seconds a run, for which the next one waits behind it on its executor, not for the event loop.
BRIEF = 0.05
LONG = 0.1  # seconds, after which a run in the event loop was the last one there


class Weight(Enum):
    """What the inputs of a network take beside handing a batch over."""

    SHORT = auto()
    """A few together take less: they run in the event loop's own thread."""
    SLIGHT = auto()
    """Each takes less: a few wait for each other, instead of waking another executor."""
    MODERATE = auto()
    """The idle executors share all that wait."""
    HEAVY = auto()
    """Each takes twice as long, at least: some are left to the executors that are busy yet."""


def weight(seconds: float, trusting: bool) -> Weight:
    """Tell by what `FEW` inputs take, 0 if unknown; and whether what takes little goes on to."""
    handings = seconds / HANDING_OVER
    if trusting and 0 < handings < FEW:
        return Weight.SHORT if handings < 1 else Weight.SLIGHT
    return Weight.HEAVY if handings >= 2 * FEW else Weight.MODERATE


def share(waiting: int, idle: int, busy: Sequence[int] = ()) -> int:
    """Return how many of those who wait one of the `idle` executors may take.

    As many as the others. If some are `busy`, with so many inputs each, no more than leaves as much
    for one more batch: else large batches and small ones take turns, and who is in a large one, or
    waits behind it, waits for long.
    """
    fair = math.ceil(waiting / idle)
    if not busy:
        return fair
    return min(fair, math.ceil((waiting + sum(busy)) / (idle + len(busy) + 1)))
