"""The running service's view of the model store: discover, load, verify, readiness, drain."""

import asyncio
import json
import logging
import math
import re
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from convserve.artifact import Manifest, is_bare, read_manifest
from convserve.engine.cpu import cpu_budget, throttling, watch_throttling
from convserve.engine.memory import MIB, ByteBudget, memory_budget, resident
from convserve.errors import Draining, InvalidArtifact, ModelNotFound, ModelNotReady
from convserve.served_model import ServedModel, open_model
from convserve.settings import Settings, suggestion
from convserve.telemetry import Telemetry

State = Literal["available", "loading", "ready", "failed"]
VERSION = re.compile(r"[1-9][0-9]{0,8}")
LOADING_SECONDS = 1.0  # when to ask again for a model that is being loaded
MENDING_SECONDS = 60.0  # when to ask again for one that somebody has to mend
WATCH_SECONDS = 5.0  # how often to compare the memory with its budget
FILES = 3  # a loaded model takes about so many times its files

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Entry:
    """One artifact of the store, and what became of it; `flaw` says why it cannot be served.

    `wanted` callers wait for it, the last one came at `used`; loaded, it takes so many bytes.
    """

    path: Path
    manifest: Manifest | None = None
    flaw: str | None = None
    model: ServedModel | None = None
    loading: asyncio.Task[None] | None = None
    wanted: int = 0
    used: float = 0.0
    footprint: int = 0

    @property
    def id(self) -> str:
        """The model's name."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """The version's number, as text."""
        return self.path.name

    @property
    def fault(self) -> str | None:
        """Why it is not served, or not now; None if it is or may be."""
        return self.flaw or (self.model.fault if self.model else None)

    @property
    def state(self) -> State:
        """Where the artifact is on its way into service."""
        if self.fault:
            return "failed"
        if self.model:
            return "ready"
        return "loading" if self.loading else "available"


class Repository:
    """All artifacts of the store; those required for ready are loaded at once, others on use.

    `memory` is what the requests to all of them share, `cpu_budget` what their runs share.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.memory = ByteBudget(settings.max_in_flight_bytes, telemetry.in_flight_bytes.set)
        self._settings = settings
        self._telemetry = telemetry
        self.cpu_budget = cpu_budget(settings.cores)
        self._room = memory_budget(settings.memory_budget_bytes)
        self._decoders = ThreadPoolExecutor(math.ceil(self.cpu_budget.cores), "convserve-decode")
        self._entries: dict[str, dict[str, Entry]] = {}
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
        self._telemetry.watch_throttling(lambda: throttling().seconds)
        self._in_background(watch_throttling())
        self._in_background(self._watch_memory())
        for entry in await asyncio.to_thread(lambda: list(discover(self._settings.store))):
            self._entries.setdefault(entry.id, {})[entry.version] = entry
        try:
            self._required = self._settings.models or default_models(self._settings.store)
        except InvalidArtifact as error:
            self._fault = str(error)
        self._required = self._required or tuple(self._entries)
        self._starting = asyncio.create_task(self._load_required())

    async def settled(self) -> None:
        """Wait until every required model is ready or has failed."""
        await self._settled.wait()

    async def get(self, name: str, version: str | None = None) -> ServedModel:
        """Return the model, latest version unless told; loads it if this is its first use.

        Who awaits nothing before `in_use` keeps it from being unloaded. Raises ModelNotFound, or
        ModelNotReady while a required one is loading, if it failed, or if there is no memory.
        """
        entry = self.find(name, version)
        entry.used = monotonic()
        if entry.model is None:
            await self._first_use(entry)
        if entry.fault:
            raise ModelNotReady(f"{name} is not served: {entry.fault}", MENDING_SECONDS)
        if entry.model is None:
            raise ModelNotReady(f"there is no memory to load {name} now", LOADING_SECONDS)
        return entry.model

    def versions(self, name: str) -> list[Entry]:
        """Return all versions of a model, latest first; raises ModelNotFound."""
        if name not in self._entries:
            raise ModelNotFound(f"there is no model {name!r}{suggestion(name, self._entries)}")
        found = self._entries[name]
        return sorted(found.values(), key=lambda entry: int(entry.version), reverse=True)

    def names(self) -> list[str]:
        """Return the names of all models in the store."""
        return sorted(self._entries)

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

    def begin_drain(self) -> None:
        """Be not ready from now on, though requests are still answered."""
        self._draining = True

    async def close(self) -> None:
        """Finish what was accepted and let everything go."""
        self._draining = True
        await self._drop_chores()
        tasks = [entry.loading for entry in self._all() if entry.loading]
        await asyncio.gather(self._starting, *tasks)
        await asyncio.gather(*(entry.model.close() for entry in self._all() if entry.model))
        await asyncio.gather(*self._retiring)
        self._decoders.shutdown()

    def _all(self) -> Iterator[Entry]:
        for versions in self._entries.values():
            yield from versions.values()

    def find(self, name: str, version: str | None) -> Entry:
        """Return a version of a model, the latest if None; raises ModelNotFound."""
        if version is None:
            return self.versions(name)[0]
        known = {entry.version: entry for entry in self.versions(name)}
        if version not in known:
            raise ModelNotFound(f"{name} has no version {version!r}; it has {', '.join(known)}")
        return known[version]

    def _unready(self) -> Iterator[str]:
        if self._fault:
            yield self._fault
        if not self._required:
            yield f"the store {self._settings.store} holds no artifact"
        for name in self._required:
            if name not in self._entries:
                yield f"{name} is required, but the store {self._settings.store} does not hold it"
            elif (entry := self.versions(name)[0]).fault:
                yield f"{name} is not served: {entry.fault}"
            elif entry.model is None:
                yield f"{name} is loading"

    async def _load_required(self) -> None:
        latest = [self.versions(name)[0] for name in self._required if name in self._entries]
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
        return self.required(entry.id) and entry is self.versions(entry.id)[0]

    async def _open_if_there_is_room(self, entry: Entry) -> None:
        """Open one after the other: whether there is room for the next can be told then."""
        async with self._making_room:
            needed = entry.footprint or await asyncio.to_thread(_estimate, entry.path)
            if not await self._make_room(needed):
                entry.loading = None
                logger.warning("%s: no room for about %.0f MiB", entry.path, needed / MIB)
                return
            before = resident()
            await self._open(entry)
            entry.footprint = max(needed // FILES, resident() - before)

    async def _make_room(self, needed: int = 0) -> bool:
        """Unload who was not used for longest; nobody if that would not be enough."""
        excess, leave = self._room.excess(needed), list[Entry]()
        for entry in sorted(self._all(), key=lambda entry: entry.used):
            if excess > 0 and entry.model and not (entry.wanted or self._keeps(entry)):
                leave.append(entry)
                excess -= entry.footprint
        if excess <= 0 or not needed:
            await self._unload(leave)
        return excess <= 0

    async def _unload(self, entries: Sequence[Entry]) -> None:
        """Let models go; who uses one for long is not waited for, but may finish."""
        leaving = set[asyncio.Task[None]]()
        for entry in entries:
            if entry.model:
                logger.info("%s is unloaded: the memory budget is used up", entry.path)
                leaving.add(asyncio.create_task(entry.model.retire()))
            entry.model = entry.loading = None
        self._retiring |= leaving
        if leaving:
            done, _ = await asyncio.wait(leaving, timeout=self._settings.run_seconds)
            self._retiring -= done

    async def _watch_memory(self) -> None:
        """Requests take memory too, and models more than they took at first."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._room.excess() > 0:
                async with self._making_room:
                    await self._make_room()

    async def _open(self, entry: Entry) -> None:
        if entry.flaw:
            return
        try:
            model, verdict = await asyncio.to_thread(
                open_model,
                entry.path,
                self._settings,
                self.cpu_budget,
                self._decoders,
                self._telemetry,
            )
        except InvalidArtifact as error:
            entry.flaw = str(error)
        except Exception as error:
            logger.exception("%s cannot be loaded", entry.path)
            entry.flaw = f"unexpected {type(error).__name__}; the log has the details"
        else:
            entry.model, entry.manifest = model, model.artifact.manifest
            logger.info(
                "%s version %s is verified: %d goldens, largest difference %.2g",
                entry.id,
                entry.version,
                verdict.goldens,
                verdict.worst,
            )
            self._in_background(self._measure(model))

    async def _measure(self, model: ServedModel) -> None:
        """Measure when all that is required is loaded, one model after the other."""
        await self._settled.wait()
        async with self._measuring:
            await model.measure(self._settings.measure_seconds, self._idle)

    def _idle(self) -> bool:
        return all(entry.model.idle for entry in self._all() if entry.model)

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


def _estimate(path: Path) -> int:
    """Predict the bytes that a model takes which was never loaded."""
    return FILES * sum(file.stat().st_size for file in path.glob("*") if file.is_file())


def discover(store: Path) -> Iterator[Entry]:
    """Find the artifacts `<id>/<version>` of a store; what is wrong with one is its `flaw`."""
    for path in sorted(store.glob("*/*/")):
        if VERSION.fullmatch(path.name):
            try:
                yield Entry(path, manifest=None if is_bare(path) else read_manifest(path))
            except InvalidArtifact as error:
                yield Entry(path, flaw=str(error))


def default_models(store: Path) -> tuple[str, ...]:
    """Return the names that `store.json` marks as default, none if there is no such file."""
    file = store / "store.json"
    if not file.exists():
        return ()
    try:
        names = json.loads(file.read_bytes())["default"]
        return tuple(map(str, names))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArtifact(
            f"{file} cannot be read: {error!r}", 'write it as {"default": ["<model>", …]}'
        ) from None
