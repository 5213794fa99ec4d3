"""How an artifact's runs share the cores best, and what they cost: measured between requests."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from convserve.engine import Arrays
from convserve.engine.collate import shapes
from convserve.engine.cost import batch_sizes
from convserve.engine.layout import Choice, Layout, Trial, choose, medians
from convserve.engine.session import Session
from convserve.graphs import Graphs

ROUNDS = 3  # of trials of each way to share the cores
MEASUREMENTS = 5  # of each batch size, before any request
POLL_SECONDS = 0.05  # how often to look whether the service is idle

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Until `end`, in seconds of `perf_counter`, a turn comes whenever the service is idle."""

    end: float
    idle: Callable[[], bool]

    async def turn(self) -> bool:
        """Wait for a turn; False if there is none any more."""
        while perf_counter() < self.end:
            if self.idle():
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


@dataclass(frozen=True, slots=True)
class Tuner:
    """Learns of the graph that answers, from runs of `example` in batches of up to so many.

    What it finds it leaves in the graphs' `measured`; each run takes a turn of `pace`.
    """

    graphs: Graphs
    example: Arrays
    max_batch_size: int
    pace: Pace

    async def choose(self, layouts: Sequence[Layout]) -> None:
        """Choose from two layouts; the first one is in use."""
        wide = await asyncio.to_thread(Session, self.graphs.answering.path, layouts[1].threads)
        sessions = dict(zip(layouts, (self.graphs.answering, wide), strict=True))
        trials: list[Trial] = []
        for _ in range(ROUNDS):
            for size in sorted({1, self.max_batch_size}):
                for layout, session in sessions.items():
                    if not await self.pace.turn():
                        break
                    items = [self.example] * size
                    trial = await asyncio.to_thread(self.graphs.attempt, session, layout, items)
                    trials.append(trial)
        whole = len(trials) - len(trials) % len(sessions)
        if whole:
            self._lay_out(choose(medians(trials[:whole])), sessions)

    async def learn(self) -> None:
        """Learn what a run costs, by batch size."""
        for size in batch_sizes(self.max_batch_size) * MEASUREMENTS:
            if not await self.pace.turn():
                return
            taken = await asyncio.to_thread(self._time, [self.example] * size)
            self.graphs.measured.cost.learn(shapes(self.example), size, taken)

    def _lay_out(self, choice: Choice, sessions: Mapping[Layout, Session]) -> None:
        self.graphs.measured.choice = choice
        if self.graphs.answering is not sessions[choice.layout]:
            self.graphs.answering = sessions[choice.layout]
            self.graphs.measured.cost.forget()
        logger.info(
            "%s runs %s (%s)", self.graphs.artifact.manifest.id, choice.layout, choice.reason
        )

    def _time(self, items: Sequence[Arrays]) -> float:
        started = perf_counter()
        self.graphs.run_alone(items)
        return perf_counter() - started
