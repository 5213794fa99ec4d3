"""Models come and go: opened within a memory budget, measured when there is time, let go."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from convserve.chores import Chores
from convserve.engine.cpu import cpu_budget, throttling, watch_throttling
from convserve.engine.decoders import Decoders
from convserve.engine.memory import MIB, memory_budget, resident
from convserve.entries import Entries
from convserve.errors import InvalidArtifact
from convserve.served_model import ServedModel, open_model
from convserve.settings import Settings
from convserve.store import FILES, Entry, estimate
from convserve.telemetry import Telemetry

WATCH_SECONDS = 5.0  # how often to compare the memory with its budget

logger = logging.getLogger(__name__)


class Loader:
    """Opens the models of `entries` and lets them go.

    Those that must be there, as `keeps` tells, take what memory they need; of the others those not
    used for longest give way. What can wait until the required models are `settled` is one of the
    `chores`. All models share the `cpu_budget`.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        entries: Entries,
        keeps: Callable[[Entry], bool],
        settled: asyncio.Event,
        chores: Chores,
    ) -> None:
        self.cpu_budget = cpu_budget(settings.cores)
        self._settings = settings
        self._telemetry = telemetry
        self._entries = entries
        self._keeps = keeps
        self._settled = settled
        self._chores = chores
        self._room = memory_budget(settings.memory_budget_bytes)
        self._decoders = Decoders(math.ceil(self.cpu_budget.cores))
        self._making_room = asyncio.Lock()
        self._measuring = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Tell of the budgets, and watch them from now on."""
        logger.info("CPU budget: %s", self.cpu_budget.reason)
        self._telemetry.cpu_limit.set(self.cpu_budget.cores)
        logger.info("memory budget: %s", self._room.reason)
        self._telemetry.memory_limit.set(self._room.limit)
        self._telemetry.memory_budget.set(self._room.bytes)
        self._telemetry.watch_throttling(throttling)
        self._chores.begin(watch_throttling())
        self._chores.begin(self._watch_memory())

    def load(self, entry: Entry) -> asyncio.Task[None]:
        """Open a model, once; its entry then has it, or a flaw, or neither for want of memory."""
        if entry.loading is None:
            keeps = self._keeps(entry)
            entry.loading = asyncio.create_task(
                self._open(entry) if keeps else self._open_if_there_is_room(entry)
            )
        return entry.loading

    def let_go(self, entry: Entry, reason: str) -> asyncio.Task[None]:
        """Nobody finds the model any more from now on; who uses it may finish."""
        assert entry.model
        logger.info("%s is unloaded: %s", entry.path, reason)
        leaving = asyncio.create_task(entry.model.retire())
        entry.model = entry.loading = None
        self._retiring.add(leaving)
        leaving.add_done_callback(self._retiring.discard)
        return leaving

    async def close(self) -> None:
        """Let all models go that are there; none may be loading."""
        models = [entry.model for entry in self._entries if entry.model]
        await asyncio.gather(*(model.close() for model in models), *self._retiring)
        self._decoders.close()

    async def _open_if_there_is_room(self, entry: Entry) -> None:
        """Open one after the other: whether there is room for the next can be told then."""
        async with self._making_room:
            needed = entry.footprint or await asyncio.to_thread(estimate, entry.path)
            if not await self._make_room(needed):
                entry.loading = None
                self._telemetry.no_room.labels(*entry.key).inc()
                logger.warning("%s: no room for about %.0f MiB", entry.path, needed / MIB)
                return
            before = resident()
            await self._open(entry)
            entry.footprint = max(needed // FILES, resident() - before)

    async def _make_room(self, needed: int = 0) -> bool:
        """Unload who was not used for longest; nobody if that would not be enough."""
        excess, leave = self._room.excess(needed), list[Entry]()
        for entry in sorted(self._entries, key=lambda entry: entry.used):
            if excess > 0 and entry.model and not (entry.wanted or self._keeps(entry)):
                leave.append(entry)
                excess -= entry.footprint
        if excess <= 0 or not needed:
            await self._unload(leave)
        return excess <= 0

    async def _unload(self, entries: Sequence[Entry]) -> None:
        """Let models go; who uses one for long is not waited for, but may finish."""
        leaving = [self.let_go(entry, "the memory budget is used up") for entry in entries]
        if leaving:
            await asyncio.wait(leaving, timeout=self._settings.run_seconds)

    async def _watch_memory(self) -> None:
        """Requests take memory too, and models more than they took at first."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._room.excess() > 0:
                async with self._making_room:
                    await self._make_room()

    async def _open(self, entry: Entry) -> None:
        if not entry.flaw:
            await self._verify(entry)
        if entry.flaw:
            logger.error("%s is not served: %s", entry.path, entry.flaw)

    async def _verify(self, entry: Entry) -> None:
        try:
            model, verdict = await asyncio.to_thread(
                open_model,
                entry.path,
                self._settings,
                self.cpu_budget,
                self._decoders,
                self._telemetry,
                trusting=True,
            )
        except InvalidArtifact as error:
            entry.flaw = str(error)
        except Exception as error:
            logger.exception("%s cannot be loaded", entry.path)
            entry.flaw = f"unexpected {type(error).__name__}; the log has the details"
        else:
            entry.model, entry.manifest = model, model.artifact.manifest
            logger.info(
                "%s version %s is verified: %d of %d goldens, largest difference %.2g",
                entry.id,
                entry.version,
                verdict.goldens,
                len(model.artifact.manifest.goldens),
                verdict.worst,
            )
            self._chores.begin(self._settle_in(model))

    async def _settle_in(self, model: ServedModel) -> None:
        """Do what can wait until all that is required is loaded, one model after the other."""
        await self._settled.wait()
        async with self._measuring:
            with model.in_use:
                await asyncio.to_thread(model.graphs.try_further)
            await model.measure(self._settings.measure_seconds, self._idle)

    def _idle(self) -> bool:
        return all(entry.model.idle for entry in self._entries if entry.model)
