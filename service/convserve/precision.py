"""Which of an artifact's graphs answers: that of floats, or that of 8-bit integers.

It is decided once, before the model is ready: nobody's answer changes from one minute to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import thread_time
from typing import Literal

from convserve.manifest import Manifest

Graph = Literal["float", "int8"]
Wanted = Literal["auto", "float", "int8"]

LOSS = 0.003  # of accuracy, at most, unless the operator wants the graph all the same
GAIN = 1.2  # times less processor time, at least: less is not worth another answer
ROUNDS = 7
ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Precision:
    """The graph that answers, and why."""

    graph: Graph
    reason: str

    def __str__(self) -> str:
        return f"answers with its {self.graph} graph: {self.reason}"


ONLY = Precision("float", "it has no other")
FAILED = Precision("float", "its int8 graph fails, as the log tells")


def told(graph: Graph) -> Precision:
    """Return what the operator wants."""
    return Precision(graph, f"CONVSERVE_PRECISION is {graph}")


def chosen(manifest: Manifest, gain: float) -> Precision:
    """Return what answers if integers take `gain` times less processor time."""
    price = _price(manifest)
    if price is None:
        return Precision("float", "the manifest does not show what int8 costs in accuracy")
    loss, figures = price
    reason = f"a run takes {gain:.1f} times the processor time in float here; {figures} in int8"
    return Precision("int8" if gain >= GAIN and loss <= LOSS + 1e-9 else "float", reason)


def _price(manifest: Manifest) -> tuple[float, str] | None:
    """How much accuracy integers lose on the same samples, and the figures; None if not shown."""
    quantized = manifest.graphs.int8
    of_integers = quantized.metrics if quantized else ()
    both = [
        (one, other)
        for one in manifest.metrics
        for other in of_integers
        if one.name == other.name == ACCURACY and (one.split, one.n) == (other.split, other.n)
    ]
    if not both:
        return None
    ((one, other),) = both[:1]
    figures = f"accuracy {other.value:.4f} instead of {one.value:.4f} (n = {one.n})"
    return one.value - other.value, figures


def gain(floats: Callable[[], object], integers: Callable[[], object]) -> float:
    """Return how many times less processor time of this thread the second takes; blocks.

    The median of rounds in which both take turns: whatever else the machine does hits both.
    """
    ratios = [_seconds(floats) / max(_seconds(integers), 1e-9) for _ in range(1 + ROUNDS)]
    return median(ratios[1:])  # the first allocates


def _seconds(run: Callable[[], object]) -> float:
    started = thread_time()
    run()
    return thread_time() - started
