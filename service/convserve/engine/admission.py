"""Whether a deadline can be met, by what the runs, the queue and one's own batch will take."""

from collections.abc import Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from convserve.engine.decoders import CAUTION
from convserve.engine.runs import Runs
from convserve.engine.waiting import Priority, Waiting
from convserve.errors import DeadlineUnmeetable

# What a prediction is multiplied by before a deadline is held against it. Each deadline that was
# missed all the same makes it grow, each that was met shrink: they balance at one in 400 missed.
MOST_CAUTION = 3.0
MISSED, MET = 1.05, 1.05 ** (-1 / 400)
# Whoever has so many seconds is let in without a look, for a moment after half of it was enough.
AMPLE, MOMENT = 1.0, 0.005


@dataclass(slots=True)
class _Late:
    """What was found for one: he would be answered at `end`, after his deadline.

    So would whoever has the same key and priority, if as many are `coming`. All get one `refusal`.
    """

    key: Hashable
    priority: Priority
    coming: int
    end: float
    refusal: DeadlineUnmeetable

    def holds(self, key: Hashable, deadline: float, priority: Priority, coming: int) -> bool:
        """Tell whether it means that somebody would be late."""
        return (
            deadline < self.end
            and coming >= self.coming
            and key == self.key
            and priority is self.priority
        )


class Admission:
    """Judges deadlines for those who would wait behind the `runs` of a model, and the `waiting`.

    What it found for one it tells the next, who come with no more time, until something `changed`.
    """

    def __init__(self, name: str, waiting: Waiting[Any], runs: Runs[Any, Any]) -> None:
        self._name = name
        self._waiting = waiting
        self._runs = runs
        self._caution = CAUTION
        self._ample_until = 0.0
        self._late: _Late | None = None

    def backlog_seconds(self) -> float:
        """Predict how long the accepted payloads will take."""
        return (self._runs.remaining_seconds() + self._waiting.seconds()) / self._runs.executors

    def refusal(
        self, key: Hashable, deadline: float, priority: Priority, coming: int
    ) -> DeadlineUnmeetable | None:
        """Return what a payload gets that would come too late, None for one that would not.

        So many others are `coming` before it.
        """
        now = monotonic()
        if now < self._ample_until and now + AMPLE < deadline:
            return None
        late = self._late
        if late and late.holds(key, deadline, priority, coming):
            return late.refusal
        remaining = self._runs.remaining_seconds()
        most = MOST_CAUTION * (remaining + self._waiting.bound(key, coming))
        if now + most < deadline:  # as most have time enough: no need to look closer
            if most < AMPLE / 2:
                self._ample_until = now + MOMENT
            return None
        # Who finds an executor idle is never refused: a wrong prediction is mended by a run.
        if deadline <= now or (self._runs.idle() > coming and not self._waiting):
            return None
        before, own = self._waiting.prospect(key, priority, coming)
        needed = self._caution * ((remaining + before) / self._runs.executors + own)
        if now + needed <= deadline:
            return None
        detail = f"{self._name} would answer in {needed:.3f} s, after the deadline"
        refusal = DeadlineUnmeetable(detail, self.backlog_seconds())
        self._late = _Late(key, priority, coming, now + needed, refusal)
        return refusal

    def changed(self) -> None:
        """A run ended, or somebody left: who comes now may be answered sooner."""
        self._late = None

    def met(self) -> None:
        """A deadline was met, as predicted."""
        if self._caution > CAUTION:
            self._caution = max(CAUTION, self._caution * MET)

    def missed(self) -> None:
        """A deadline was missed, against the prediction."""
        self._caution = min(MOST_CAUTION, self._caution * MISSED)
