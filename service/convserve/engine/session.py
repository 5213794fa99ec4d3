"""One ONNX graph, ready to run. The only file that knows ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from convserve.engine import Arrays
from convserve.engine.isolation import Stop
from convserve.errors import InvalidArtifact, InvalidInput

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""ONNX Runtime's type names → the datatypes of the Open Inference Protocol."""

RUNTIME = f"onnxruntime {ort.__version__}"
ERROR, FATAL = 3, 4  # ONNX Runtime's severities
# After the run the memory arena gives back what it does not use. In a rush, runs of a fixed shape
# keep it, to be faster; the first single run after that clears up after them. Those of varying
# shapes would take more and more: they clear up time and again (docs/adr/0006).
SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")
RARE, OFTEN = 0.1, 0.04  # seconds since the last run: it is no rush; since the last that cleared up

CHOOSING = {
    b"\x22" + bytes([len(name)]) + name for name in (b"If", b"Loop", b"Scan", b"SequenceMap")
}
"""How ONNX, in Protocol Buffers, writes the operators that choose or repeat others at run time."""

REMEDIES = {
    "External data path does not exist": "put the external data file beside the model",
    "External data path": "keep external data inside the model's own directory",
    "official released onnx opset": "export it with a lower opset, or install a newer onnxruntime",
    "model IR version": "export it for an older IR version, or install a newer onnxruntime",
    "Protobuf parsing failed": "the file is damaged or not ONNX: restore it, or export it again",
    "No graph was found": "the file is empty or not ONNX: restore it, or export it again",
    "No Op registered": "export it with operators of the ONNX standard",
    "is not a registered function/op": "export it with operators of the ONNX standard",
    "NOT_IMPLEMENTED": "export it with operators and types that the CPU provider implements",
}
"""What ONNX Runtime's message contains → how to mend the model."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, Open Inference Protocol datatype and shape (-1: any length) of one tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Session:
    """An ONNX graph on the CPU, with `threads` threads to each run.

    `run` may be called from several threads at once. With `threads=1` each call computes on the
    thread that made it, so that n executors share one session and one copy of the weights.
    Raises InvalidArtifact if the file is missing or is no graph that can be served.
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]

    def __init__(self, path: Path, threads: int) -> None:
        self.path = path
        self._session = _load(path, threads)
        self.inputs = [_spec(path, node) for node in self._session.get_inputs()]
        self.outputs = [_spec(path, node) for node in self._session.get_outputs()]
        self._output_names = [spec.name for spec in self.outputs]
        self._varies = any(-1 in spec.shape[1:] for spec in self.inputs)
        self._began = self._cleared = 0.0

    def steady(self) -> bool:
        """Tell whether no node chooses or repeats others by the values that it is given."""
        graph = self.path.read_bytes()
        return not any(mark in graph for mark in CHOOSING)

    def run(self, inputs: Arrays, stop: Stop | None = None) -> Arrays:
        """Return the outputs for `inputs`, arrays as `inputs` and `outputs` specify them.

        `stop` is one that `new_stop` made. Raises InvalidInput for a shape or value that the
        graph does not take (an index out of range, say); what else ONNX Runtime cannot run, or
        was told to stop, raises its own exception.
        """
        options = stop if isinstance(stop, _Stop) else _Stop()
        last, self._began = self._began, monotonic()
        single = next(iter(inputs.values())).shape[:1] == (1,)
        clears_up = single and self._began > last + RARE
        if self._varies and self._began > self._cleared + OFTEN:
            clears_up, self._cleared = True, self._began
        if clears_up:
            options.shrink()
        try:
            values = self._session.run(self._output_names, inputs, options)
        except InvalidArgument as error:
            raise InvalidInput(f"the model does not take these values: {_reason(error)}") from error
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Let the graph and its memory go, once no run uses it any more."""
        del self._session


def new_stop(*, tidy: bool = False) -> Stop:
    """Return what ends the runs that are given it; it acts between two nodes of the graph.

    Who is `tidy` gives memory back after the run in any case.
    """
    stop = _Stop()
    if tidy:
        stop.shrink()
    return stop


class _Stop(ort.RunOptions):  # type: ignore[misc]  # has `terminate`, hence a Stop
    """ONNX Runtime's options of one run, or of the runs of one batch that fails."""

    terminate: bool

    def __init__(self) -> None:
        super().__init__()
        self.log_severity_level = FATAL  # who stops a run knows why it ended
        self._shrinks = False

    def shrink(self) -> None:
        """Give the arena's memory back after the run."""
        if not self._shrinks:  # ONNX Runtime warns of a second time
            self.add_run_config_entry(*SHRINK)
            self._shrinks = True


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Never the defaults: they count the host's cores, not ours, and pin threads to them.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads burn the CPU that the other executors and the event loop need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = ERROR
    return options


def _load(path: Path, threads: int) -> ort.InferenceSession:
    if not path.is_file():
        raise InvalidArtifact(f"{path} is not a file", "restore it, or export the model again")
    try:
        return ort.InferenceSession(
            path, sess_options=_options(threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise InvalidArtifact(f"{path} does not load: {error}", _remedy(str(error))) from error


def _remedy(message: str) -> str:
    known = (remedy for symptom, remedy in REMEDIES.items() if symptom in message)
    return next(known, "export the model again and run it with onnxruntime before serving it")


def _reason(error: Exception) -> str:
    """Return what ONNX Runtime says after the node's name, which is nobody's business."""
    return str(error).rpartition("Status Message: ")[2].rpartition("INVALID_ARGUMENT : ")[2].strip()


def _spec(path: Path, node: ort.NodeArg) -> TensorSpec:
    if node.type not in DATATYPES:
        raise InvalidArtifact(
            f"{path}: {node.name!r} is a {node.type}",
            f"export a graph whose inputs and outputs are of {', '.join(DATATYPES)}",
        )
    return TensorSpec(node.name, DATATYPES[node.type], _shape(node.shape))


def _shape(dims: Sequence[Any]) -> tuple[int, ...]:
    """Named and unnamed dynamic axes, whatever ONNX Runtime calls them, are -1."""
    return tuple(dim if isinstance(dim, int) else -1 for dim in dims)
