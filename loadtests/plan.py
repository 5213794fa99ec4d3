"""The steps of a run.

Closed loop: a step is a number of users who wait for their answers; it shows throughput.
Open loop: a step is an arrival rate that does not depend on the answers (Poisson); it shows the
latency that a client sees, because a slow server does not slow its clients down.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Plan:
    """The steps of one run: users (closed) or requests per second (open)."""

    loop: Literal["closed", "open"]
    loads: tuple[float, ...]
    seconds: float
    settle: float
    """Seconds at the start of each step that are not counted."""

    def step_at(self, run_time: float) -> int | None:
        """Return the index of the step at ``run_time`` seconds, None before and after the run."""
        index = int(run_time // self.seconds)
        return index if 0 <= index < len(self.loads) else None

    def counted_step_at(self, run_time: float) -> int | None:
        """Return the index of the step that counts what happens then, None while it settles."""
        return self.step_at(run_time) if run_time % self.seconds >= self.settle else None

    def arrivals(self) -> Iterator[float]:
        """Yield the seconds after the start at which requests are due: a Poisson process."""
        due = 0.0
        while (step := self.step_at(due)) is not None:
            yield due
            due += random.expovariate(self.loads[step])
