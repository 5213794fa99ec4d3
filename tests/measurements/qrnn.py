"""How much quicker a QRNN is than an LSTM of the same width, in ONNX Runtime.

    python -m tests.measurements.qrnn

Both read 256 columns in four layers of 256 features, as the paper's network for reviews does; the
QRNN has windows of two words, fo-pooling as `Scan`, and no dense connections, which the LSTM lacks
too. Runs take turns in one process, so that both see the same machine, and the best of each counts.
Prints LSTM's time divided by the QRNN's.
"""

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convserve_models import graph
from convserve_models.layers.quasi import QuasiRecurrentStack

WIDTH, LAYERS, ROUNDS = 256, 4, 7
SHAPES = [(1, 64), (1, 256), (1, 512), (8, 256), (32, 256)]


class Quasi(nn.Module):
    """`[N, L, C]` -> `[N, L, C]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = QuasiRecurrentStack(WIDTH, WIDTH, LAYERS, 2, "fo", dense=False)

    def forward(self, columns: Tensor) -> Tensor:
        columns = columns.transpose(1, 2)
        features: Tensor = self.stack(columns, torch.ones_like(columns[:, :1]))
        return features.transpose(1, 2)


class Twin(nn.Module):
    """The same with LSTM layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True)

    def forward(self, columns: Tensor) -> Tensor:
        features: Tensor = self.layers(columns)[0]
        return features


def main() -> None:
    print("| threads | texts | words each | LSTM / QRNN |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        paths = [_export(network, Path(scratch)) for network in (Quasi(), Twin())]
        for threads in (1, 2):
            quasi, twin = (_session(path, threads) for path in paths)
            for n, length in SHAPES:
                ratio = _ratio(quasi, twin, n, length)
                print(f"| {threads} | {n} | {length} | {ratio:.2f} |", flush=True)


def _export(network: nn.Module, folder: Path) -> Path:
    path = folder / f"{type(network).__name__}.onnx"
    graph.write(network.eval(), torch.randn(2, 9, WIDTH), path, "x", "y", any_length=True)
    return path


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # the exporter writes the LSTM's example length down
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _ratio(quasi: ort.InferenceSession, twin: ort.InferenceSession, n: int, length: int) -> float:
    x = np.random.default_rng(0).standard_normal((n, length, WIDTH), np.float32)
    seconds = [[_seconds(session, x) for session in (quasi, twin)] for _ in range(ROUNDS)]
    best_quasi, best_twin = np.array(seconds).min(axis=0)
    return float(best_twin / best_quasi)


def _seconds(session: ort.InferenceSession, x: NDArray[np.float32]) -> float:
    started = perf_counter()
    session.run(None, {"x": x})
    return perf_counter() - started


if __name__ == "__main__":
    main()
