"""The running service's view of the model store: lookup, swap, readiness, drain."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic

from convserve.chores import Chores
from convserve.engine.memory import ByteBudget
from convserve.entries import Entries
from convserve.errors import Draining, InvalidArtifact, ModelNotFound, ModelNotReady
from convserve.loading import Loader
from convserve.mirror import Mirror
from convserve.served_model import ServedModel
from convserve.settings import Settings
from convserve.store import STATES, Entry, Fingerprint, Key, Watch, default_models, discover
from convserve.telemetry import Telemetry

LOADING_SECONDS = 1.0  # when to ask again for a model that is being loaded
MENDING_SECONDS = 60.0  # when to ask again for one that somebody has to mend

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
        self.entries = Entries(settings.tags)
        self._settled = asyncio.Event()
        self._chores = Chores()
        self._loader = Loader(
            settings, telemetry, self.entries, self._keeps, self._settled, self._chores
        )
        self.cpu_budget = self._loader.cpu_budget
        self._mirror = _mirror(settings)
        self._store = self._mirror.directory if self._mirror else Path(settings.store)
        self._watch = Watch(self._store)
        self._changing = asyncio.Lock()
        self._required: tuple[str, ...] = ()
        self._fault: str | None = None
        self._draining = False

    async def start(self) -> None:
        """Read the store and begin to load the required models; returns before they are ready."""
        self._telemetry.in_flight_limit.set(self._settings.max_in_flight_bytes)
        self._telemetry.watch_store(self._is_ready, self._states)
        self._loader.start()
        await asyncio.to_thread(self._first_look)
        self._starting = asyncio.create_task(self._load_required())
        if self._settings.poll_seconds:
            self._chores.begin(self._watch_store())

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
        await self._chores.drop()
        tasks = [entry.loading for entry in self.entries if entry.loading]
        await asyncio.gather(self._starting, *tasks)
        await self._loader.close()

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
        await asyncio.shield(self._loader.load(newest))
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
            await self._loader.load(new)
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
            self._loader.let_go(entry, reason)

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
        await asyncio.gather(*map(self._loader.load, latest))
        self._settled.set()
        for reason in self._unready():
            logger.error("not ready: %s", reason)

    async def _first_use(self, entry: Entry) -> None:
        if entry.loading and self.required(entry.id) and not entry.loading.done():
            raise ModelNotReady(f"{entry.id} is loading", LOADING_SECONDS)
        entry.wanted += 1
        try:
            await asyncio.shield(self._loader.load(entry))
        finally:
            entry.wanted -= 1

    def _keeps(self, entry: Entry) -> bool:
        """Tell whether it must be there whatever memory it takes."""
        return self.required(entry.id) and int(entry.version) >= self.entries.latest(entry.id)


def _mirror(settings: Settings) -> Mirror | None:
    return None if isinstance(settings.store, Path) else Mirror(settings.store, settings.cache)
