"""What ONNX Runtime's memory arena costs in resident memory, and what it saves in time (ADR 6).

    python -m tests.measurements.arena

One process per graph and setting. Loads the graph, then runs it from two threads at once: batches
of 1 to 32 of a fixed shape, or single inputs whose length differs from run to run; a second later a
single input alone. Prints MiB of resident memory beyond the process before loading: loaded, at
most, and at rest, then the median milliseconds per item of 30 runs.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from convserve.engine import Arrays
from convserve.engine.memory import resident, return_freed_memory
from convserve.engine.session import Session, TensorSpec, new_stop

STORE = Path("models/store")
SETTINGS = ("arena", "no arena", "shrunk", "ours")  # the last is engine/session.py as it is
GRAPHS = ("all_cnn_cifar10", "char_cnn_ag_news", "vdcnn_ag_news", "lengths")
DTYPES = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}
MIB = 2**20
Run = Callable[[Arrays], object]


def main() -> None:
    print("| graph | setting | loaded | at most | at rest | b=1 ms | b=8 ms an item |")
    print("|---|---|---|---|---|---|---|")
    for graph in GRAPHS:
        for setting in SETTINGS:
            command = [sys.executable, "-m", "tests.measurements.arena", graph, setting]
            print(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout, end=""
            )


def measure(graph: str, setting: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = _file(graph, Path(folder))
        (given,) = Session(path, 1).inputs  # and what the first session costs is not the graph's
        return_freed_memory()
        before = resident()
        run = _load(path, setting)
    loaded, most = resident() - before, 0
    with ThreadPoolExecutor(2) as pool:
        for inputs in list(_batches(given)):
            list(pool.map(run, [inputs] * 4))
            most = max(most, resident() - before)
    time.sleep(1)  # the rush is over
    run(_inputs(given, 1))
    memory = " | ".join(f"{count / MIB:.1f}" for count in (loaded, most, resident() - before))
    one, eight = (_seconds(run, _inputs(given, size)) * 1e3 for size in (1, 8))
    return f"| {graph} | {setting} | {memory} | {one:.3f} | {eight / 8:.3f} |"


def lengths_graph() -> bytes:
    """float32 [N,1,T] → [N,64,1], by four strided convolutions of 64 features."""
    nodes, weights, width, value = [], [], 1, "sound"
    for depth in range(4):
        kernel = np.random.default_rng(depth).normal(0, 0.1, (64, width, 9)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{depth}"))
        nodes += [
            helper.make_node("Conv", [value, f"kernel{depth}"], [f"conv{depth}"], strides=[2]),
            helper.make_node("Relu", [f"conv{depth}"], [f"relu{depth}"]),
        ]
        width, value = 64, f"relu{depth}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"]))
    given = helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["n", 1, "t"])
    result = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 64, 1])
    graph = helper.make_graph(nodes, "lengths", [given], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _file(graph: str, folder: Path) -> Path:
    if graph != "lengths":
        return max(STORE.glob(f"{graph}/*/model.onnx"))
    path = folder / "model.onnx"
    path.write_bytes(lengths_graph())
    return path


def _load(path: Path, setting: str) -> Run:
    if setting == "ours":
        session = Session(path, 1)
        return lambda inputs: session.run(inputs, new_stop())
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = setting != "no arena"
    bare = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    return lambda inputs: bare.run(None, inputs, _run_options(setting))


def _run_options(setting: str) -> ort.RunOptions:
    options = ort.RunOptions()
    if setting == "shrunk":
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _batches(given: TensorSpec) -> Iterator[Arrays]:
    if -1 in given.shape[1:]:
        random = np.random.default_rng(0)
        yield from (_inputs(given, 1, int(t)) for t in random.integers(1_000, 200_000, 60))
    else:
        yield from (_inputs(given, size) for size in (1, 2, 4, 8, 16, 32))


def _inputs(given: TensorSpec, size: int, length: int = 16_000) -> Arrays:
    shape = [size, *(length if axis == -1 else axis for axis in given.shape[1:])]
    return {given.name: np.ones(shape, DTYPES[given.datatype])}


def _seconds(run: Run, inputs: Arrays) -> float:
    taken = []
    for _ in range(30):
        started = perf_counter()
        run(inputs)
        taken.append(perf_counter() - started)
    return median(taken)


if __name__ == "__main__":
    print(measure(*sys.argv[1:])) if sys.argv[1:] else main()
