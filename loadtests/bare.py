"""Bare ONNX Runtime: the limit that servers are held against."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from loadtests.generator import Figures


class Bare:
    """A graph on one thread, without spinning; its inputs, without a batch axis, are ready."""

    def __init__(self, graph: Path, inputs: Mapping[str, NDArray[Any]]) -> None:
        self._graph, self._inputs = graph, inputs
        self._session = self._new_session()

    def median(self, seconds: float) -> float:
        """Run one input for so long, on a thread of its own; return milliseconds."""
        with ThreadPoolExecutor(1) as pool:
            return 1e3 * pool.submit(lambda: median(self._run(self._session, 1, seconds))).result()

    def limit(self, sizes: Sequence[int], seconds: float) -> Figures:
        """Return items/s of the best batch size, side by side, and its CPU µs per item."""
        cores = len(os.sched_getaffinity(0))
        found = [self._side_by_side(cores, size, seconds) for size in sizes]
        return max(found, key=lambda one: float(one["rate"]))

    def _side_by_side(self, cores: int, size: int, seconds: float) -> Figures:
        sessions = [self._new_session() for _ in range(cores)]

        def work(session: ort.InferenceSession) -> tuple[int, float]:
            before = thread_time()
            runs = len(self._run(session, size, seconds))
            return runs * size, thread_time() - before

        started = perf_counter()
        with ThreadPoolExecutor(cores) as pool:
            items, cpu = zip(*pool.map(work, sessions), strict=True)
        taken = perf_counter() - started
        return {"rate": sum(items) / taken, "cpu": 1e6 * sum(cpu) / sum(items), "batch": size}

    def _run(self, session: ort.InferenceSession, size: int, seconds: float) -> list[float]:
        inputs = {name: np.stack([array] * size) for name, array in self._inputs.items()}
        end, taken = perf_counter() + seconds, []
        while (started := perf_counter()) < end:
            session.run(None, inputs)
            taken.append(perf_counter() - started)
        return taken

    def _new_session(self) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return ort.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
