"""The running service's view of the model store: load, swap, unload, readiness, drain."""

import asyncio
import logging
import math
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic

from convserve.engine.cpu import cpu_budget, throttling, watch_throttling
from convserve.engine.decoders import Decoders
from convserve.engine.memory import MIB, ByteBudget, memory_budget, resident
from convserve.entries import Entries
from convserve.errors import Draining, InvalidArtifact, ModelNotFound, ModelNotReady
from convserve.mirror import Mirror
from convserve.served_model import ServedModel, open_model
from convserve.settings import Settings
from convserve.store import (
    FILES,
    STATES,
    Entry,
    Fingerprint,
    Key,
    Watch,
    default_models,
    discover,
    estimate,
)
from convserve.telemetry import Telemetry

LOADING_SECONDS = 1.0  # when to ask again for a model that is being loaded
MENDING_SECONDS = 60.0  # when to ask again for one that somebody has to mend
WATCH_SECONDS = 5.0  # how often to compare the memory with its budget

logger = logging.getLogger(__name__)


class Repository:
    """All artifacts of the store; those required for ready are loaded at once, others on use.

    `memory` is what the requests to all of them share, `cpu_budget` what their runs share.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.memory = ByteBudget(settings.max_in_flight_bytes)
        telemetry.in_flight_bytes.set_function(lambda: self.memory.held)
        self._settings = settings
        self._telemetry = telemetry
        self.cpu_budget = cpu_budget(settings.cores)
        self._room = memory_budget(settings.memory_budget_bytes)
        self._decoders = Decoders(math.ceil(self.cpu_budget.cores))
        self.entries = Entries(settings.tags)
        self._mirror = _mirror(settings)
        self._store = self._mirror.directory if self._mirror else Path(settings.store)
        self._watch = Watch(self._store)
        self._changing = asyncio.Lock()
        self._required: tuple[str, ...] = ()
        self._fault: str | None = None
        self._settled = asyncio.Event()
        self._measuring = asyncio.Lock()
        self._making_room = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._draining = False

    async def start(self) -> None:
        """Read the store and begin to load the required models; returns before they are ready."""
        logger.info("CPU budget: %s", self.cpu_budget.reason)
        self._telemetry.cpu_limit.set(self.cpu_budget.cores)
        logger.info("memory budget: %s", self._room.reason)
        self._telemetry.memory_limit.set(self._room.limit)
        self._telemetry.memory_budget.set(self._room.bytes)
        self._telemetry.in_flight_limit.set(self._settings.max_in_flight_bytes)
        self._telemetry.watch_throttling(throttling)
        self._telemetry.watch_store(self._is_ready, self._states)
        self._in_background(watch_throttling())
        self._in_background(self._watch_memory())
        await asyncio.to_thread(self._first_look)
        self._starting = asyncio.create_task(self._load_required())
        if self._settings.poll_seconds:
            self._in_background(self._watch_store())

    def _first_look(self) -> None:
        """Find what is there; without the original of a store, its copy will do."""
        try:
            if self._mirror:
                self._mirror.refresh()
        except OSError as error:
            logger.error("%s", error)
            self._fault = str(error)
        for entry in discover(self._store):
            self._add(entry)
        if self.entries or not self._fault:
            self._require()

    def _require(self) -> None:
        """Settle which models are required for ready."""
        self._fault = None
        named: tuple[str, ...] = ()
        try:
            named = self._settings.models or default_models(self._store)
        except InvalidArtifact as error:
            self._fault = str(error)
        self._required = named or tuple(self.entries.names())

    async def settled(self) -> None:
        """Wait until every required model is ready or has failed."""
        await self._settled.wait()

    async def get(
        self, name: str, version: str | None = None, tag: str | None = None
    ) -> ServedModel:
        """Return the model, latest version unless told; loads it if this is its first use.

        Who awaits nothing before `in_use` keeps it from being unloaded. Raises ModelNotFound, or
        ModelNotReady while a required one is loading, if it failed, or if there is no memory.
        """
        entry = self._use(name, version, tag)
        if entry.unloaded:
            raise ModelNotReady(f"{name} was unloaded; the operator may load it", MENDING_SECONDS)
        if entry.model is None:
            await self._first_use(entry)
        if entry.fault:
            raise ModelNotReady(f"{name} is not served: {entry.fault}", MENDING_SECONDS)
        if entry.model is None:
            raise ModelNotReady(f"there is no memory to load {name} now", LOADING_SECONDS)
        return entry.model

    def at_hand(
        self, name: str, version: str | None = None, tag: str | None = None
    ) -> ServedModel | None:
        """Return the model that `get` would without waiting, None if it would wait or raise."""
        try:
            entry = self._use(name, version, tag)
        except ModelNotFound:
            return None
        return None if entry.unloaded or entry.fault else entry.model

    def _use(self, name: str, version: str | None, tag: str | None) -> Entry:
        entry = self.entries.find(name, version, tag)
        entry.used = monotonic()
        return entry

    def required(self, name: str) -> bool:
        """Tell whether the service is ready only when this model is."""
        return name in self._required

    def check_ready(self) -> None:
        """Raise Draining or ModelNotReady unless every required model may be asked."""
        if self._draining:
            raise Draining("the service is shutting down", max(1, self._settings.drain_seconds))
        reasons = list(self._unready())
        if reasons:
            wait = MENDING_SECONDS if self._settled.is_set() else LOADING_SECONDS
            raise ModelNotReady("; ".join(reasons), wait)

    def _is_ready(self) -> bool:
        return not self._draining and not any(self._unready())

    def _states(self) -> Iterator[tuple[str, str, str, bool]]:
        for entry in self.entries:
            for state in STATES:
                yield entry.id, entry.version, state, entry.state == state

    def begin_drain(self) -> None:
        """Be not ready from now on, though requests are still answered."""
        self._draining = True

    async def close(self) -> None:
        """Finish what was accepted and let everything go."""
        self._draining = True
        await self._drop_chores()
        tasks = [entry.loading for entry in self.entries if entry.loading]
        await asyncio.gather(self._starting, *tasks)
        await asyncio.gather(*(entry.model.close() for entry in self.entries if entry.model))
        await asyncio.gather(*self._retiring)
        self._decoders.close()

    async def refresh(self, *, patient: bool = False) -> None:
        """Take up what has changed in the store: verified first, swapped at once.

        What cannot be loaded never takes the place of what answers now. A `patient` refresh
        leaves what is still being written for the next one.
        """
        async with self._changing:
            known = {entry.key: entry.fingerprint for entry in self.entries}
            changed, gone = await asyncio.to_thread(self._look, known, patient)
            for entry in changed:
                await self._take_up(entry)
            for name, version in gone:
                await self._drop(self.entries.find(name, version))
            if not self._required and self.entries:
                self._require()
                await self._load_required()

    async def load(self, name: str) -> None:
        """Take up the model as it is in the store now, and load its latest version.

        Raises ModelNotFound, or ModelNotReady with the reason if that version cannot be loaded.
        """
        for entry in self.entries.versions(name) if name in self.entries else ():
            entry.unloaded = False
            if entry.flaw:
                entry.fingerprint = ()  # whatever was wrong may be mended
        await self.refresh()
        newest = self.entries.versions(name)[0]
        await asyncio.shield(self._load(newest))
        if newest.model is None:
            reason = newest.fault or "there is no memory for it"
            raise ModelNotReady(f"{name} {newest.version} is not served: {reason}", MENDING_SECONDS)

    async def unload(self, name: str) -> None:
        """Let go of all versions of a model until it is loaded again; raises ModelNotFound."""
        async with self._changing:
            for entry in self.entries.versions(name):
                entry.unloaded = True
                await self._settle(entry, "by hand")

    async def _watch_store(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                await self.refresh(patient=True)
            except OSError as error:
                logger.error("the store %s cannot be read: %s", self._settings.store, error)

    def _look(
        self, known: Mapping[Key, Fingerprint], patient: bool
    ) -> tuple[list[Entry], set[Key]]:
        if self._mirror:
            self._mirror.refresh()
        return self._watch.changes(known, patient=patient)

    async def _take_up(self, new: Entry) -> None:
        """Load the new if the old is in service, and only then put it in its place."""
        old = self.entries.get(new.id, new.version)
        now = self.entries.find(new.id) if new.id in self.entries else None
        new.unloaded = bool(now and now.unloaded)
        if now and not new.unloaded and (now.model or self.required(new.id)):
            await self._load(new)
            if old and old.model and not new.model:
                logger.error("%s stays as it was loaded: %s", old.path, new.fault)
                old.fingerprint = new.fingerprint
                return
        if old:
            await self._settle(old, "it has changed")
        self._add(new)

    def _add(self, entry: Entry) -> None:
        self.entries.add(entry, first=not self._settled.is_set())
        self._telemetry.no_room.labels(*entry.key)  # there at 0 before it counts

    async def _drop(self, entry: Entry) -> None:
        """Forget an artifact that is in the store no more."""
        self.entries.drop(entry)
        await self._settle(entry, "it is in the store no more")

    async def _settle(self, entry: Entry, reason: str) -> None:
        """Let an entry go that nobody may find any more, after what loads it has ended."""
        if entry.loading:
            await asyncio.wait([entry.loading])
        if entry.model:
            self._let_go(entry, reason)

    def _unready(self) -> Iterator[str]:
        if self._fault:
            yield self._fault
        if not self._required:
            yield f"the store {self._settings.store} holds no artifact"
        for name in self._required:
            if name not in self.entries:
                yield f"{name} is required, but the store {self._settings.store} does not hold it"
            elif (entry := self.entries.find(name)).fault:
                yield f"{name} is not served: {entry.fault}"
            elif entry.model is None and not entry.unloaded:
                yield f"{name} is loading"

    async def _load_required(self) -> None:
        latest = [self.entries.find(name) for name in self._required if name in self.entries]
        await asyncio.gather(*map(self._load, latest))
        self._settled.set()
        for reason in self._unready():
            logger.error("not ready: %s", reason)

    async def _first_use(self, entry: Entry) -> None:
        if entry.loading and self.required(entry.id) and not entry.loading.done():
            raise ModelNotReady(f"{entry.id} is loading", LOADING_SECONDS)
        entry.wanted += 1
        try:
            await asyncio.shield(self._load(entry))
        finally:
            entry.wanted -= 1

    def _load(self, entry: Entry) -> asyncio.Task[None]:
        if entry.loading is None:
            keeps = self._keeps(entry)
            entry.loading = asyncio.create_task(
                self._open(entry) if keeps else self._open_if_there_is_room(entry)
            )
        return entry.loading

    def _keeps(self, entry: Entry) -> bool:
        """Tell whether it must be there whatever memory it takes."""
        return self.required(entry.id) and int(entry.version) >= self.entries.latest(entry.id)

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
        for entry in sorted(self.entries, key=lambda entry: entry.used):
            if excess > 0 and entry.model and not (entry.wanted or self._keeps(entry)):
                leave.append(entry)
                excess -= entry.footprint
        if excess <= 0 or not needed:
            await self._unload(leave)
        return excess <= 0

    async def _unload(self, entries: Sequence[Entry]) -> None:
        """Let models go; who uses one for long is not waited for, but may finish."""
        leaving = [self._let_go(entry, "the memory budget is used up") for entry in entries]
        if leaving:
            await asyncio.wait(leaving, timeout=self._settings.run_seconds)

    def _let_go(self, entry: Entry, reason: str) -> asyncio.Task[None]:
        """Nobody finds the model any more from now on; who uses it may finish."""
        assert entry.model
        logger.info("%s is unloaded: %s", entry.path, reason)
        leaving = asyncio.create_task(entry.model.retire())
        entry.model = entry.loading = None
        self._retiring.add(leaving)
        leaving.add_done_callback(self._retiring.discard)
        return leaving

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
            self._in_background(self._settle_in(model))

    async def _settle_in(self, model: ServedModel) -> None:
        """Do what can wait until all that is required is loaded, one model after the other."""
        await self._settled.wait()
        async with self._measuring:
            with model.in_use:
                await asyncio.to_thread(model.graphs.try_further)
            await model.measure(self._settings.measure_seconds, self._idle)

    def _idle(self) -> bool:
        return all(entry.model.idle for entry in self.entries if entry.model)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        chore = asyncio.create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chore_done)

    def _chore_done(self, chore: asyncio.Task[None]) -> None:
        self._chores.discard(chore)
        if not chore.cancelled() and (error := chore.exception()):
            logger.error("failed in the background", exc_info=error)

    async def _drop_chores(self) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)


def _mirror(settings: Settings) -> Mirror | None:
    return None if isinstance(settings.store, Path) else Mirror(settings.store, settings.cache)
