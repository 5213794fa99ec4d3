"""One artifact in service: preprocess → batcher → session → postprocess."""

import asyncio
import logging
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Lock, Timer
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from convserve import postprocess, preprocess
from convserve.artifact import BARE_GRAPH, Artifact, Manifest, bare_artifact, is_bare, load_artifact
from convserve.engine import Arrays
from convserve.engine.batcher import Batcher
from convserve.engine.collate import split, stack
from convserve.engine.cost import batch_sizes
from convserve.engine.cpu import CpuBudget
from convserve.engine.decoders import Decoders, JobQueue
from convserve.engine.isolation import Stop
from convserve.engine.layout import Choice, Layout, Trial, attempt, choose, layouts, medians
from convserve.engine.memory import Hold, return_heap
from convserve.engine.session import Session, new_stop
from convserve.engine.waiting import Priority
from convserve.errors import CapacityError, InferenceFailed, InvalidArtifact, QueueFull
from convserve.measured import Measured
from convserve.precision import FAILED, ONLY, Precision, Wanted, chosen, gain, told
from convserve.preprocess.prepared import SMALL, Pending, Prepared
from convserve.settings import Settings
from convserve.stamp import Stamp
from convserve.telemetry import ModelMetrics, Telemetry, Trace
from convserve.verification import Inputs, Verdict, Verifier

ROUNDS = 3  # of trials of each way to share the cores
TARGET = "target"  # the explaining graph's input besides the predicting one's: which label
OCCLUSION = "occlusion"  # the method that needs no graph of its own
MAPS = "maps"  # no explanation of a label: what the convolutions answer to an input
MEASUREMENTS = 5  # of each batch size, before any request
POLL_SECONDS = 0.05  # how often to look whether the service is idle

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Refusals:
    """Blocks in which what is dropped is counted, and who meets a full queue told when to come."""

    def __init__(self, metrics: ModelMetrics, backlog_seconds: Callable[[], float]) -> None:
        self._metrics = metrics
        self._backlog_seconds = backlog_seconds

    def __enter__(self) -> None:
        """Begin a block; there may be several at once."""

    def __exit__(self, kind: object, refusal: BaseException | None, traceback: object) -> None:
        """Count what was refused."""
        if isinstance(refusal, CapacityError):
            self._metrics.dropped(refusal.code)
            if isinstance(refusal, QueueFull):
                raise QueueFull(refusal.detail, self._backlog_seconds()) from None


class Users:
    """Blocks before whose end a model does not `retire`; `count` are open."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        """Begin a block; there may be several at once."""
        self.count += 1

    def __exit__(self, *error: object) -> None:
        """End it."""
        self.count -= 1


class ServedModel:
    """An artifact that takes requests, once it is verified and warm.

    `decoders` runs the byte work that is too large for the event loop.
    """

    def __init__(
        self,
        artifact: Artifact,
        settings: Settings,
        budget: CpuBudget,
        decoders: Decoders,
        telemetry: Telemetry,
    ) -> None:
        manifest = artifact.manifest
        limit = manifest.limits.max_batch_size or settings.max_batch_size
        self.artifact = artifact
        self.id, self.version = manifest.id, manifest.version
        self.labels = manifest.postprocess.labels
        self.task = manifest.task
        self.modality = manifest.preprocess.modality
        self.max_batch_size = min(settings.max_batch_size, limit)
        self.metrics = ModelMetrics(telemetry, self.id, self.version)
        telemetry.queue_capacity.labels(self.id, self.version).set(settings.queue_capacity)
        self._preprocess = preprocess.build(manifest, settings)
        self._postprocess = postprocess.build(manifest)
        self.measured = Measured(settings.cache, _digests(manifest), self.max_batch_size, budget)
        self.cost, layout = self.measured.cost, self.measured.choice.layout
        self._precision: Wanted = settings.precision
        self._stamp = partial(Stamp, artifact.manifest, layout.threads, settings)
        self.precision = ONLY
        self._layouts = layouts(budget.executors)
        self._session = Session(artifact.graph, layout.threads)
        self._further: dict[str, Session] = {}
        self._opening = Lock()
        self._told: tuple[str, ...] | None = None
        self._run_seconds = settings.run_seconds
        self._decoding = JobQueue(decoders, settings.queue_capacity, f"inputs of {self.id}")
        self._searching = JobQueue(decoders, settings.queue_capacity, f"answers of {self.id}")
        self._shape = tuple(tensor.shape[1:] for tensor in manifest.inputs)
        self._batcher = Batcher[Arrays, Arrays](
            self._run,
            name=self.id,
            cost=self.cost,
            new_stop=new_stop,
            max_batch_size=self.max_batch_size,
            queue_capacity=settings.queue_capacity,
            executors=self._layouts[0].executors,  # the most there can be
            run_seconds=settings.run_seconds,
            grace_seconds=settings.grace_seconds,
            cores=budget.spread,
            observe=self.metrics,
        )
        self.metrics.watch_queue(lambda: self._batcher.waiting)
        self.refusals = Refusals(self.metrics, self._batcher.backlog_seconds)
        self.in_use = Users()
        self.retired = False

    @property
    def batch_size(self) -> int:
        """How many inputs share a run at most, by what runs have cost so far."""
        return self.cost.worthwhile(None, self.max_batch_size, 0.0)

    @property
    def idle(self) -> bool:
        """Tell whether it has nothing to do."""
        return self._batcher.idle

    @property
    def fault(self) -> str | None:
        """Why it takes no requests at the moment, None if it does."""
        return self._batcher.fault

    async def methods(self) -> tuple[str, ...]:
        """Return how its answers can be explained; call it while it is `in_use`."""
        if self.modality not in ("image", "text") or not self.labels:
            return ()
        if self._told is None:
            await asyncio.to_thread(self.try_further)
        return (OCCLUSION, *(self._told or ()))

    @property
    def graph(self) -> Path:
        """The file that answers."""
        return self._session.path

    def verify(self, *, trusting: bool = False) -> Verdict:
        """Reproduce the goldens, decide which graph answers, and warm up; blocks.

        Who is `trusting` relies on what an earlier start has proved. Raises InvalidArtifact.
        """
        prover = self._prover(trusting=trusting)
        verdict = prover("predict", self._session).verify()
        self._decide(prover)
        prover("predict", self._session).warm_up(self.max_batch_size)
        self.metrics.in_service(self.artifact.manifest.graphs.predict.sha256, self.precision.graph)
        return verdict

    def try_further(self) -> None:
        """Try the graphs that say more than its answer, unless that was done; blocks.

        They take more memory than the one that answers: who asks for them first opens them anew.
        """
        with self._opening:
            if self._told is not None:
                return
            explainer = self._tried("explain", {TARGET: np.array(0)})
            maps = self._tried("features", {})
            outputs = explainer.outputs if explainer else ()
            self._told = (*(output.name for output in outputs), *((MAPS,) if maps else ()))

    def _prover(self, *, trusting: bool) -> Callable[[str, Session], Verifier]:
        """Return what gives the verifier of a graph by its role; all share the inputs."""
        inputs, manifest = Inputs(self.artifact, self._preprocess), self.artifact.manifest

        def verifier(role: str, session: Session) -> Verifier:
            run = partial(self._run_alone, session=session)
            stamp = self._stamp(role) if trusting else None
            quantized = manifest.graphs.int8 if role == "int8" else None
            tolerance = quantized.tolerance if quantized else None
            return Verifier(
                self.artifact, inputs, session, run, self._postprocess, stamp, tolerance
            )

        return verifier

    def _decide(self, prover: Callable[[str, Session], Verifier]) -> None:
        """Let the graph of integers answer if it is right and worth it here, or as it was told."""
        integers = None if self._precision == "float" else self._integers(prover)
        self.precision = self._chosen(integers)
        if integers is not None:
            answers = self.precision.graph == "int8"
            self._session, other = (
                (integers, self._session) if answers else (self._session, integers)
            )
            other.close()
        if self.artifact.manifest.graphs.int8 is not None:
            logger.info("%s %s", self.id, self.precision)
        self._begin()

    def _chosen(self, integers: Session | None) -> Precision:
        if self.artifact.manifest.graphs.int8 is None:
            return ONLY
        if self._precision == "float":
            return told("float")
        if integers is None:
            return FAILED
        if self._precision == "int8":
            return told("int8")
        return chosen(self.artifact.manifest, self._gain(integers))

    def _begin(self) -> None:
        """Take up what is known of the graph that answers, which may not be the last one's."""
        threads = self.measured.choice.layout.threads
        self.measured.begin(self.precision.graph)
        layout = self.measured.choice.layout
        self._batcher.resize(layout.executors)
        if layout.threads != threads:
            self._session = Session(self.graph, layout.threads)

    def _integers(self, prover: Callable[[str, Session], Verifier]) -> Session | None:
        """Open the graph of integers and prove it; None if there is none, or it is not right."""
        return self._beside("int8", lambda session: prover("int8", session).verify())

    def _gain(self, integers: Session) -> float:
        """How many times less processor time integers take for one input, measured once."""
        if self.measured.gain is None:
            items = [self.example() or {}]
            runs = (
                partial(self._run_alone, items, session) for session in (self._session, integers)
            )
            self.measured.gain = gain(*runs)
        return self.measured.gain

    def _tried(self, role: str, further: Arrays) -> Session | None:
        """Open and try a graph that says more than the one that predicts."""

        def attempt(session: Session) -> None:
            self._run_alone([(self.example() or {}) | further] * 2, session)

        return self._beside(role, attempt)

    def _beside(self, role: str, prove: Callable[[Session], object]) -> Session | None:
        """Open and prove a graph beside the one that predicts.

        One that fails is none, and the log says why.
        """
        try:
            session = self._opened(role)
            if session is not None:
                prove(session)
        except Exception as error:
            logger.warning("%s goes without its graph %r: %s", self.artifact.path, role, error)
            return None
        return session

    def _opened(self, role: str) -> Session | None:
        path = self.artifact.beside(role)
        return Session(path, self.measured.choice.layout.threads) if path else None

    async def _need(self, role: str) -> None:
        """Have the graph of `role` open, which was tried before."""
        if role not in self._further:
            await asyncio.to_thread(self._open_further, role)

    def _open_further(self, role: str) -> None:
        with self._opening:
            try:
                if role not in self._further and (session := self._opened(role)):
                    self._further[role] = session
            except InvalidArtifact as error:  # it was good when it was tried
                logger.error("%s", error)
                raise InferenceFailed(f"the graph {role!r} cannot be opened any more") from None

    async def measure(self, seconds: float, idle: Callable[[], bool]) -> None:
        """Learn how its runs share the cores best and what they cost, unless that is known.

        Takes at most so many seconds; between two runs it waits until `idle`. What it has no time
        for, requests will teach.
        """
        with self.in_use:
            example = await asyncio.to_thread(self.example)
            if example is None:
                return
            pace = _Pace(perf_counter() + seconds, idle)
            if len(self._layouts) > 1 and not self.measured.choice.trials:
                await self._choose(example, pace)
            if not self.measured.recalled:
                await self._learn(example, pace)
            await asyncio.to_thread(self.measured.keep)
            await asyncio.to_thread(return_heap)

    def example(self) -> Arrays | None:
        """Return the input that it is measured with, None if the artifact has none; blocks."""
        goldens = self.artifact.manifest.goldens
        if not goldens:
            return None
        data = (self.artifact.path / goldens[0].input).read_bytes()
        return self._preprocess.peek(data).finish().inputs

    def attempt(self, session: Session, layout: Layout, items: Sequence[Arrays]) -> Trial:
        """Measure how many items per second a layout's `session` finishes; blocks."""
        return attempt(lambda: self._run_alone(items, session), layout, len(items))

    async def _choose(self, example: Arrays, pace: "_Pace") -> None:
        wide = await asyncio.to_thread(Session, self.graph, self._layouts[1].threads)
        sessions = dict(zip(self._layouts, (self._session, wide), strict=True))
        trials: list[Trial] = []
        for _ in range(ROUNDS):
            for size in sorted({1, self.max_batch_size}):
                for layout, session in sessions.items():
                    if not await pace.turn():
                        break
                    items = [example] * size
                    trials.append(await asyncio.to_thread(self.attempt, session, layout, items))
        whole = len(trials) - len(trials) % len(sessions)
        if whole:
            self._lay_out(choose(medians(trials[:whole])), sessions)

    def _lay_out(self, choice: Choice, sessions: Mapping[Layout, Session]) -> None:
        self.measured.choice = choice
        if self._session is not sessions[choice.layout]:
            self._session = sessions[choice.layout]
            self._batcher.resize(choice.layout.executors)
            self.cost.forget()
        logger.info("%s runs %s (%s)", self.id, choice.layout, choice.reason)

    async def _learn(self, example: Arrays, pace: "_Pace") -> None:
        # From the largest to the single run, which gives the others' memory back.
        for size in batch_sizes(self.max_batch_size)[::-1] * MEASUREMENTS:
            if not await pace.turn():
                return
            taken = await asyncio.to_thread(self._time, [example] * size)
            self.cost.learn(_key(example), size, taken)

    def admit(self, deadline: float, priority: Priority = Priority.NORMAL, coming: int = 0) -> None:
        """Raise what `infer` would refuse now, before anything is read or decoded for it.

        So many others were told that they may come, and have not come yet.
        """
        with self.refusals:
            self._check(deadline, priority, coming)

    def _check(
        self, deadline: float, priority: Priority = Priority.NORMAL, coming: int = 0
    ) -> None:
        coming += self._decoding.jobs
        self._batcher.check(key=self._shape, deadline=deadline, priority=priority, coming=coming)

    async def prepare(
        self, data: bytes, trace: Trace, hold: Hold, *, deadline: float = math.inf
    ) -> Prepared:
        """Return raw `data` as the model's input; `hold` accounts for what it unpacks meanwhile.

        Raises InvalidInput, InputTooLarge, UnsupportedMedia, or QueueFull, DeadlineUnmeetable and
        DeadlineExceeded if too much is being decoded already, or runs, for the `deadline`.
        """
        started = perf_counter()
        with self.refusals:
            prepared = await self._prepare(data, hold, deadline)
        seconds = perf_counter() - started
        trace.span("decode", seconds)
        self.metrics.preprocess_seconds.observe(seconds)
        return prepared

    async def infer(
        self,
        prepared: Prepared,
        trace: Trace,
        *,
        top_k: int | None,
        deadline: float = math.inf,
        priority: Priority = Priority.NORMAL,
    ) -> dict[str, object]:
        """Return the answer for one input, by `deadline` (seconds of the loop's clock).

        Raises what Batcher.submit raises, and QueueFull if too many answers are searched for.
        """
        outputs = await self.outputs(prepared.inputs, trace, deadline=deadline, priority=priority)
        started = perf_counter()
        answer = partial(self._postprocess.answer, outputs, top_k)
        if self._postprocess.searches(top_k):
            with self.refusals:
                value = await self._on_thread(self._searching, answer, deadline)
        else:
            value = answer()
        trace.span("post", perf_counter() - started)
        return value | prepared.facts

    async def outputs(
        self,
        inputs: Arrays,
        trace: Trace,
        *,
        deadline: float = math.inf,
        priority: Priority = Priority.NORMAL,
    ) -> Arrays:
        """Return the graph's outputs for one input, neither with a batch axis; see `infer`."""
        answer = await self._batcher.submit(
            inputs, key=_key(inputs), deadline=deadline, priority=priority
        )
        self.metrics.queue_seconds.observe(answer.queue_seconds)
        trace.span("queue", answer.queue_seconds)
        trace.span("inference", answer.run_seconds)
        trace.batch_size = max(trace.batch_size, answer.batch_size)
        return answer.value

    async def explain(
        self, inputs: Arrays, method: str, target: int, trace: Trace, *, deadline: float = math.inf
    ) -> NDArray[Any]:
        """Return what `method`, one of `methods` with a graph, says of the label at `target`.

        For each place [H, W], or each value [H, W, channels], of the input; at low priority.
        """
        await self._need("explain")
        asked = inputs | {TARGET: np.array(target)}
        outputs = await self.outputs(asked, trace, deadline=deadline, priority=Priority.LOW)
        if not np.isfinite(outputs[method]).all():
            raise InferenceFailed(f"{method} gives something that is no number")
        return outputs[method]

    async def maps(
        self, inputs: Arrays, trace: Trace, *, deadline: float = math.inf
    ) -> list[NDArray[Any]]:
        """Return what each convolution answers, [channels, H, W], in order; at low priority."""
        await self._need("features")
        asked = inputs | {MAPS: np.empty(0)}  # in no batch with what has a target
        outputs = await self.outputs(asked, trace, deadline=deadline, priority=Priority.LOW)
        return list(outputs.values())

    def row(self, outputs: Arrays) -> list[float]:
        """Return the probability of every label; raises InferenceFailed if one is no number."""
        return list(self._postprocess.proof(outputs).values())

    async def retire(self) -> None:
        """Go out of service when nobody uses it any more, and give its memory back."""
        self.retired = True
        while self.in_use.count:  # noqa: ASYNC110 - it is nobody's business to tell
            await asyncio.sleep(POLL_SECONDS)
        await self.close()
        self.metrics.unloaded(self.artifact.manifest.graphs.predict.sha256, self.precision.graph)
        await asyncio.to_thread(return_heap)

    async def close(self) -> None:
        """Refuse the new, finish the accepted, and let the threads and the graph go."""
        await self._batcher.drain()
        await self._batcher.close()
        self._session.close()
        for session in self._further.values():
            session.close()
        await asyncio.to_thread(self.measured.keep)

    async def _prepare(self, data: bytes, hold: Hold, deadline: float) -> Prepared:
        if len(data) > SMALL:
            return await self._decode(lambda: _finish(self._preprocess.peek(data), hold), deadline)
        pending = self._preprocess.peek(data)
        if pending.large:
            return await self._decode(lambda: _finish(pending, hold), deadline)
        return pending.finish()  # small, and one at a time: nobody accounts for it

    async def _decode(self, work: Callable[[], Prepared], deadline: float) -> Prepared:
        """Decode on a thread what will be decoded, and run, in time."""
        self._decoding.check(deadline)
        self._check(deadline - self._decoding.needed())
        return await self._on_thread(self._decoding, work, deadline)

    async def _on_thread(self, queue: JobQueue, work: Callable[[], T], deadline: float) -> T:
        try:
            return await queue.run(work, deadline)
        except asyncio.CancelledError:
            self.metrics.cancelled("preprocess")
            raise

    def _run(
        self, items: Sequence[Arrays], stop: Stop, session: Session | None = None
    ) -> list[Arrays]:
        rows = stack(items)
        session = session or self._graph_for(rows)
        return split(session.run(rows, stop), len(items))

    def _graph_for(self, rows: dict[str, NDArray[Any]]) -> Session:
        if "explain" in self._further and TARGET in rows:
            return self._further["explain"]
        if "features" in self._further and rows.pop(MAPS, None) is not None:
            return self._further["features"]
        return self._session

    def _run_alone(self, items: Sequence[Arrays], session: Session | None = None) -> list[Arrays]:
        """Run outside the batcher, but no longer than a batch may."""
        stop = new_stop()
        timer = Timer(self._run_seconds, setattr, (stop, "terminate", True))
        timer.start()
        try:
            return self._run(items, stop, session)
        except Exception:
            if stop.terminate:
                raise TimeoutError(f"a run did not end in {self._run_seconds:g} s") from None
            raise
        finally:
            timer.cancel()

    def _time(self, items: Sequence[Arrays]) -> float:
        started = perf_counter()
        self._run_alone(items)
        return perf_counter() - started


def _finish(pending: Pending, hold: Hold) -> Prepared:
    with hold.during(pending.unpacked):
        return pending.finish()


def _key(inputs: Arrays) -> Hashable:
    """Return what inputs have in common that may share a batch: their shapes."""
    return tuple(array.shape for array in inputs.values())


@dataclass(frozen=True, slots=True)
class _Pace:
    """Until `end`, a turn comes whenever the service is idle."""

    end: float
    idle: Callable[[], bool]

    async def turn(self) -> bool:
        """Wait for a turn; False if there is none any more."""
        while perf_counter() < self.end:
            if self.idle():
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


def _digests(manifest: Manifest) -> list[str]:
    """Return those of the graphs that may answer."""
    graphs = (manifest.graphs.predict, manifest.graphs.int8)
    return [graph.sha256 for graph in graphs if graph is not None]


def open_model(
    path: Path,
    settings: Settings,
    budget: CpuBudget,
    decoders: Decoders,
    telemetry: Telemetry,
    *,
    trusting: bool = False,
) -> tuple[ServedModel, Verdict]:
    """Load the artifact in `path`, verify it and warm it up; blocks. Raises InvalidArtifact.

    Who is `trusting` relies on what an earlier start has proved.
    """
    artifact = _described(path) if is_bare(path) else load_artifact(path)
    model = ServedModel(artifact, settings, budget, decoders, telemetry)
    return model, model.verify(trusting=trusting)


def _described(path: Path) -> Artifact:
    session = Session(path / BARE_GRAPH, threads=1)
    return bare_artifact(
        path, [asdict(spec) for spec in session.inputs], [asdict(spec) for spec in session.outputs]
    )
