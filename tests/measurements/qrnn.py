"""How much quicker a QRNN is than an LSTM of the same width, in ONNX Runtime.

    python -m tests.measurements.qrnn

All read 256 columns in four layers of 256 features, as the paper's network for reviews does; the
QRNN has windows of two words and no dense connections, which the LSTM lacks too. Runs take turns in
one process, so that all see the same machine, and the best of each counts. Prints LSTM's time
divided by the QRNN's, with fo-pooling and with f-pooling.

A word costs 8·W² multiplications in a layer of the LSTM, and in one of the QRNN 4.5·W² with fo- or
3·W² with f-pooling (6 and 4 before Winograd), so of large batches, where both are as quick as the
products of matrices, no more than 1.8 and 2.7 can be had.
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
from convserve_models.layers.quasi import Pooling, QuasiRecurrentStack

WIDTH, LAYERS, ROUNDS = 256, 4, 7
SHAPES = [(1, 64), (1, 256), (1, 512), (8, 256), (32, 256)]


class Quasi(nn.Module):
    """`[N, L, C]` -> `[N, L, C]`."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.stack = QuasiRecurrentStack(WIDTH, WIDTH, LAYERS, 2, pooling, dense=False)

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
    networks = (Twin(), Quasi("fo"), Quasi("f"))
    print("| threads | texts | words each | LSTM / QRNN, fo | LSTM / QRNN, f |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        paths = [_export(net, Path(scratch) / f"{i}.onnx") for i, net in enumerate(networks)]
        for threads in (1, 2):
            sessions = [_session(path, threads) for path in paths]
            for n, length in SHAPES:
                fo, f = _ratios(sessions, n, length)
                print(f"| {threads} | {n} | {length} | {fo:.2f} | {f:.2f} |", flush=True)


def _export(network: nn.Module, path: Path) -> Path:
    graph.write(network.eval(), torch.randn(2, 9, WIDTH), path, "x", "y", any_length=True)
    return path


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # the exporter writes the LSTM's example length down
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _ratios(sessions: list[ort.InferenceSession], n: int, length: int) -> list[float]:
    """The first one's time divided by each other's."""
    x = np.random.default_rng(0).standard_normal((n, length, WIDTH), np.float32)
    rounds = [[_seconds(session, x) for session in sessions] for _ in range(ROUNDS)]
    twin, *others = np.array(rounds).min(axis=0).tolist()
    return [twin / other for other in others]


def _seconds(session: ort.InferenceSession, x: NDArray[np.float32]) -> float:
    started = perf_counter()
    session.run(None, {"x": x})
    return perf_counter() - started


if __name__ == "__main__":
    main()
