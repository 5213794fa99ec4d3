"""One artifact in service: preprocess → batcher → session → postprocess."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from time import perf_counter

from convserve import postprocess, preprocess
from convserve.artifact import Artifact, load_artifact
from convserve.engine import Arrays
from convserve.engine.batcher import Batcher
from convserve.engine.collate import split, stack
from convserve.engine.cpu import CpuBudget
from convserve.engine.session import Session
from convserve.errors import QueueFull
from convserve.preprocess.prepared import Prepared
from convserve.settings import Settings
from convserve.telemetry import ModelMetrics, Telemetry, Trace
from convserve.verification import Verdict, Verifier


class ServedModel:
    """An artifact that takes requests, once it is verified and warm.

    `decoders` runs the byte work that is too large for the event loop.
    """

    def __init__(
        self,
        artifact: Artifact,
        settings: Settings,
        budget: CpuBudget,
        decoders: Executor,
        telemetry: Telemetry,
    ) -> None:
        manifest = artifact.manifest
        limit = manifest.limits.max_batch_size or settings.max_batch_size
        self.artifact = artifact
        self.id, self.version = manifest.id, manifest.version
        self.labels = manifest.postprocess.labels
        self.modality = manifest.preprocess.modality
        self.max_batch_size = min(settings.max_batch_size, limit)
        self.metrics = ModelMetrics(telemetry, self.id, self.version)
        self._preprocess = preprocess.build(manifest, settings)
        self._postprocess = postprocess.build(manifest)
        self._session = Session(artifact.graph, budget.threads_per_executor)
        self._decoders = decoders
        self._decoding = 0
        self._capacity = settings.queue_capacity
        self._batcher = Batcher[Arrays, Arrays](
            self._run,
            name=self.id,
            max_batch_size=self.max_batch_size,
            queue_capacity=settings.queue_capacity,
            executors=budget.executors,
            observe=self.metrics,
        )

    def verify(self) -> Verdict:
        """Reproduce the goldens and warm up; blocks. Raises InvalidArtifact."""
        verifier = Verifier(
            self.artifact, self._preprocess, self._session, self._run, self._postprocess
        )
        verdict = verifier.verify()
        verifier.warm_up(self.max_batch_size)
        self.metrics.in_service(self.artifact.manifest.graphs.predict.sha256)
        return verdict

    async def prepare(self, data: bytes, trace: Trace) -> Prepared:
        """Return raw `data` as the model's input.

        Raises InvalidInput, InputTooLarge, UnsupportedMedia, or QueueFull if too much of it is
        being decoded already.
        """
        started = perf_counter()
        pending = self._preprocess.peek(data)
        prepared = await self._decode(pending.finish) if pending.large else pending.finish()
        seconds = perf_counter() - started
        trace.span("decode", seconds)
        self.metrics.preprocess_seconds.observe(seconds)
        return prepared

    async def infer(
        self, prepared: Prepared, trace: Trace, *, top_k: int | None, deadline: float | None
    ) -> dict[str, object]:
        """Return the answer for one input, by `deadline` (seconds of the loop's clock).

        Raises what Batcher.submit raises.
        """
        key = tuple(array.shape for array in prepared.inputs.values())
        answer = await self._batcher.submit(prepared.inputs, key=key, deadline=deadline)
        self.metrics.queue_seconds.observe(answer.queue_seconds)
        trace.span("queue", answer.queue_seconds)
        trace.span("inference", answer.run_seconds)
        trace.batch_size = max(trace.batch_size, answer.batch_size)
        started = perf_counter()
        value = self._postprocess.answer(answer.value, top_k) | prepared.facts
        trace.span("post", perf_counter() - started)
        return value

    async def close(self) -> None:
        """Refuse the new, finish the accepted, and let the threads go."""
        await self._batcher.drain()
        await self._batcher.close()

    async def _decode(self, finish: Callable[[], Prepared]) -> Prepared:
        if self._decoding >= self._capacity:
            self.metrics.dropped(QueueFull.code)
            raise QueueFull(f"{self._decoding} inputs of {self.id} are being decoded", 1.0)
        self._decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, finish)
        finally:
            self._decoding -= 1

    def _run(self, items: Sequence[Arrays]) -> list[Arrays]:
        return split(self._session.run(stack(items)), len(items))


def open_model(
    path: Path, settings: Settings, budget: CpuBudget, decoders: Executor, telemetry: Telemetry
) -> tuple[ServedModel, Verdict]:
    """Load the artifact in `path`, verify it and warm it up; blocks. Raises InvalidArtifact."""
    model = ServedModel(load_artifact(path), settings, budget, decoders, telemetry)
    return model, model.verify()
