"""One artifact in service: preprocess → batcher → session → postprocess."""

import asyncio
import math
from collections.abc import Callable, Hashable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from convserve import postprocess, preprocess
from convserve.artifact import BARE_GRAPH, Artifact, bare_artifact, is_bare, load_artifact
from convserve.engine import Arrays
from convserve.engine.batcher import Batcher
from convserve.engine.collate import shapes
from convserve.engine.cpu import CpuBudget
from convserve.engine.decoders import Decoders, JobQueue
from convserve.engine.layout import layouts
from convserve.engine.memory import Hold, return_heap
from convserve.engine.session import Session, new_stop
from convserve.engine.waiting import Priority
from convserve.errors import CapacityError, InferenceFailed
from convserve.graphs import MAPS, TARGET, Graphs
from convserve.guards import Refusals, Users
from convserve.manifest import Manifest
from convserve.measured import Measured
from convserve.preprocess.prepared import SMALL, Pending, Prepared
from convserve.settings import Settings
from convserve.stamp import Stamp
from convserve.telemetry import ModelMetrics, Telemetry, Trace
from convserve.tuning import Pace, Tuner
from convserve.verification import Inputs, Verdict, Verifier

OCCLUSION = "occlusion"  # the method that needs no graph of its own

T = TypeVar("T")


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
        self.cost = self.measured.cost
        self._stamp = partial(Stamp, manifest, self.measured.choice.layout.threads, settings)
        self.graphs = Graphs(artifact, settings, self.measured, self.example, budget.spread)
        self._layouts = layouts(budget.executors)
        self._decoding = JobQueue(decoders, settings.queue_capacity, f"inputs of {self.id}")
        self._searching = JobQueue(decoders, settings.queue_capacity, f"answers of {self.id}")
        expected = tuple(tensor.shape[1:] for tensor in manifest.inputs)
        self._varies = any(-1 in shape for shape in expected)
        self._expected: Hashable = expected  # of the next input, before it is read
        self._batcher = Batcher[Arrays, Arrays](
            self.graphs.run,
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
        return (OCCLUSION, *await self.graphs.methods())

    def verify(self, *, trusting: bool = False) -> Verdict:
        """Reproduce the goldens, decide which graph answers, and warm up; blocks.

        Who is `trusting` relies on what an earlier start has proved. Raises InvalidArtifact.
        """
        prover = self._prover(trusting=trusting)
        verdict = prover("predict", self.graphs.answering).verify()
        self.graphs.decide(lambda session: prover("int8", session).verify())
        self._batcher.resize(self.measured.choice.layout.executors)
        self._batcher.trust(self.graphs.answering.steady())
        prover("predict", self.graphs.answering).warm_up(self.max_batch_size)
        self.metrics.in_service(
            self.artifact.manifest.graphs.predict.sha256, self.graphs.precision.graph
        )
        return verdict

    def _prover(self, *, trusting: bool) -> Callable[[str, Session], Verifier]:
        """Return what gives the verifier of a graph by its role; all share the inputs."""
        inputs, manifest = Inputs(self.artifact, self._preprocess), self.artifact.manifest

        def verifier(role: str, session: Session) -> Verifier:
            run = partial(self.graphs.run_alone, session=session)
            stamp = self._stamp(role) if trusting else None
            quantized = manifest.graphs.int8 if role == "int8" else None
            tolerance = quantized.tolerance if quantized else None
            return Verifier(
                self.artifact, inputs, session, run, self._postprocess, stamp, tolerance
            )

        return verifier

    async def measure(self, seconds: float, idle: Callable[[], bool]) -> None:
        """Learn how its runs share the cores best and what they cost, unless that is known.

        Takes at most so many seconds; between two runs it waits until `idle`. What it has no time
        for, requests will teach.
        """
        with self.in_use:
            example = await asyncio.to_thread(self.example)
            if example is None:
                return
            pace = Pace(perf_counter() + seconds, idle)
            tuner = Tuner(self.graphs, example, self.max_batch_size, pace)
            if len(self._layouts) > 1 and not self.measured.choice.trials:
                await tuner.choose(self._layouts)
                self._batcher.resize(self.measured.choice.layout.executors)
            if not self.measured.recalled:
                await tuner.learn()
            await asyncio.to_thread(self.measured.keep)
            await pace.turn()  # once nobody asks, if that is soon
            await asyncio.to_thread(self._tidy, example)

    def _tidy(self, example: Arrays) -> None:
        """Give back the memory that runs of batches and the trials before have left."""
        self.graphs.run_alone([example])
        return_heap()

    def example(self) -> Arrays | None:
        """Return the input that it is measured with, None if the artifact has none; blocks."""
        goldens = self.artifact.manifest.goldens
        if not goldens:
            return None
        data = (self.artifact.path / goldens[0].input).read_bytes()
        return self._preprocess.peek(data).finish().inputs

    def refusal(
        self, deadline: float, priority: Priority = Priority.NORMAL, coming: int = 0
    ) -> CapacityError | None:
        """Return what `infer` would raise now, before anything is read or decoded for it.

        So many others were told that they may come, and have not come yet.
        """
        coming += self._decoding.jobs
        refusal = self._batcher.refusal(
            key=self._expected, deadline=deadline, priority=priority, coming=coming
        )
        if refusal:
            self.metrics.dropped(refusal.code)
        return refusal

    def admit(self, deadline: float, priority: Priority = Priority.NORMAL) -> None:
        """Raise the `refusal` if there is one."""
        if refusal := self.refusal(deadline, priority):
            raise refusal

    async def prepare(
        self, data: bytes, trace: Trace, hold: Hold, *, deadline: float = math.inf
    ) -> Prepared:
        """Return raw `data` as the model's input; `hold` accounts for what it unpacks meanwhile.

        Raises InvalidInput, InputTooLarge, UnsupportedMedia, or QueueFull, DeadlineUnmeetable and
        DeadlineExceeded if too much is being decoded already, or runs, for the `deadline`.
        """
        started = perf_counter()
        pending = None if len(data) > SMALL else self._preprocess.peek(data)
        if pending and not pending.large:
            prepared = pending.finish()  # small, and one at a time: nobody accounts for it
        else:
            prepared = await self._decode(data, pending, hold, deadline)
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
        if self._varies:
            self._expected = shapes(prepared.inputs)
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
            inputs, key=shapes(inputs), deadline=deadline, priority=priority
        )
        self.metrics.queue_seconds.observe(answer.queue_seconds)
        trace.ran(answer.queue_seconds, answer.run_seconds, answer.batch_size)
        return answer.value

    async def explain(
        self, inputs: Arrays, method: str, target: int, trace: Trace, *, deadline: float = math.inf
    ) -> NDArray[Any]:
        """Return what `method`, one of `methods` with a graph, says of the label at `target`.

        For each place [H, W], or each value [H, W, channels], of the input; at low priority.
        """
        await self.graphs.need("explain")
        asked = inputs | {TARGET: np.array(target)}
        outputs = await self.outputs(asked, trace, deadline=deadline, priority=Priority.LOW)
        if not np.isfinite(outputs[method]).all():
            raise InferenceFailed(f"{method} gives something that is no number")
        return outputs[method]

    async def maps(
        self, inputs: Arrays, trace: Trace, *, deadline: float = math.inf
    ) -> list[NDArray[Any]]:
        """Return what each convolution answers, [channels, H, W], in order; at low priority."""
        await self.graphs.need("features")
        asked = inputs | {MAPS: np.empty(0)}  # in no batch with what has a target
        outputs = await self.outputs(asked, trace, deadline=deadline, priority=Priority.LOW)
        return list(outputs.values())

    def row(self, outputs: Arrays) -> list[float]:
        """Return the probability of every label; raises InferenceFailed if one is no number."""
        return list(self._postprocess.proof(outputs).values())

    async def retire(self) -> None:
        """Go out of service when nobody uses it any more, and give its memory back."""
        self.retired = True
        await self.in_use.gone()
        await self.close()
        self.metrics.unloaded(
            self.artifact.manifest.graphs.predict.sha256, self.graphs.precision.graph
        )
        await asyncio.to_thread(return_heap)

    async def close(self) -> None:
        """Refuse the new, finish the accepted, and let the threads and the graph go."""
        await self._batcher.drain()
        await self._batcher.close()
        self.graphs.close()
        await asyncio.to_thread(self.measured.keep)

    async def _decode(
        self, data: bytes, pending: Pending | None, hold: Hold, deadline: float
    ) -> Prepared:
        """Decode on a thread what will be decoded, and run, in time."""
        with self.refusals:
            self._decoding.check(deadline)
        self.admit(deadline - self._decoding.needed())
        work = partial(self._decoded, data, pending, hold)
        with self.refusals:
            return await self._on_thread(self._decoding, work, deadline)

    def _decoded(self, data: bytes, pending: Pending | None, hold: Hold) -> Prepared:
        pending = pending or self._preprocess.peek(data)
        with hold.during(pending.unpacked):
            return pending.finish()

    async def _on_thread(self, queue: JobQueue, work: Callable[[], T], deadline: float) -> T:
        try:
            return await queue.run(work, deadline)
        except asyncio.CancelledError:
            self.metrics.cancelled("preprocess")
            raise


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
