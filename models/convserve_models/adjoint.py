"""A signal carried back through an ONNX graph by nodes of ONNX: no autograd where it runs.

The adjoint of a convolution is the transposed convolution with the same weights (Dumoulin & Visin,
1603.07285, §4); pooling sends each signal back to where the maximum was; a sum copies it. What a
rectifier lets back is what tells three methods apart (Springenberg et al., 1412.6806, fig. 1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import pi, prod, sqrt
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Method = Literal["gradient", "deconvnet", "guided"]
OLDEST_OPSET = 18
"""From which on every node that is written here means what it means."""


def opset(model: ModelProto) -> int:
    """The version of ONNX's operators that a model is written in."""
    return next(int(o.version) for o in model.opset_import if o.domain in {"", "ai.onnx"})


class NoAdjoint(Exception):
    """The graph holds something whose adjoint is not known; the message says what."""


class Adjoint:
    """Nodes that carry signals back through `model`, which must state its sizes but for the batch.

    They and their constants are added to the graph; raises `NoAdjoint` for what is not known.
    """

    def __init__(self, model: ModelProto) -> None:
        if (version := opset(model)) < OLDEST_OPSET:
            raise NoAdjoint(f"opset {version} is older than {OLDEST_OPSET}")
        self.graph = model.graph
        self.forward = list(model.graph.node)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self._sizes = {v.name: _sizes(v) for v in known}
        self._constants = {t.name: t for t in model.graph.initializer}
        self._constants |= {n.output[0]: n.attribute[0].t for n in self.forward if _constant(n)}
        for node in self.forward:  # weights that are stored narrow and widened on loading
            if node.op_type == "Cast" and node.input[0] in self._constants:
                self._constants[node.output[0]] = self._constants[node.input[0]]
        self._made = 0

    def carry(self, start: str, signal: str, end: str, method: Method = "gradient") -> str:
        """Carry `signal`, which belongs to the tensor `start`, to the tensor `end`."""
        dependent = self._dependents(end)
        signals: defaultdict[str, list[str]] = defaultdict(list, {start: [signal]})
        for node in reversed(self.forward):
            came = [self._sum(signals[name]) if signals[name] else "" for name in node.output[:1]]
            if not any(came) or end in node.output:
                continue
            rule = RULES.get(node.op_type)
            if rule is None:
                raise NoAdjoint(f"the adjoint of {node.op_type} is not known")
            for name, sent in zip(node.input, rule(self, node, came[0], method), strict=False):
                if name in dependent:
                    signals[name].append(sent)
        if not signals[end]:
            raise NoAdjoint(f"{start} does not depend on {end}")
        return self._sum(signals[end])

    def emit(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        names = [self._name() for _ in range(outputs)]
        self.graph.node.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def one(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        return self.emit(op, *inputs, **attributes)[0]

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """Add a constant and return its name."""
        name = self._name()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def value(self, name: str) -> NDArray[Any]:
        """The value of a constant."""
        if name not in self._constants:
            raise NoAdjoint(f"{name} is computed, not a constant")
        values = np.asarray(numpy_helper.to_array(self._constants[name]))
        return values.astype(np.float32) if values.dtype == np.float16 else values

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor is a constant."""
        return name in self._constants

    def sizes(self, name: str) -> list[int]:
        """The sizes of a tensor behind its batch axis."""
        sizes = self._sizes.get(name)
        if not sizes or None in sizes[1:]:
            raise NoAdjoint(f"the sizes of {name} are not fixed")
        return [size for size in sizes[1:] if size is not None]

    def like(self, signal: str, name: str) -> str:
        """`signal` in the shape of the tensor `name`."""
        return self.one("Reshape", signal, self.one("Shape", name), allowzero=1)

    def scattered(self, signal: str, places: str, name: str) -> str:
        """Zeros like the tensor `name`, the signal added at `places`, counted through all axes."""
        whole = self.constant([-1], np.int64)
        count = self.one("Reshape", self.one("Size", name), self.constant([1], np.int64))
        zeros = self.one("Expand", self.constant([0]), count)
        flat = (self.one("Reshape", part, whole) for part in (places, signal))
        sent = self.one("ScatterElements", zeros, *flat, axis=0, reduction="add")
        return self.like(sent, name)

    def _sum(self, signals: list[str]) -> str:
        if len(signals) > 1:
            signals[:] = [self.one("Sum", *signals)]
        return signals[0]

    def _name(self) -> str:
        self._made += 1
        return f"adjoint/{self._made}"

    def _dependents(self, end: str) -> set[str]:
        found = {end}
        for node in self.forward:
            if found.intersection(node.input):
                found.update(node.output)
        return found


Rule = Callable[[Adjoint, NodeProto, str, Method], Sequence[str]]


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _added(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    moving = [name for name in node.input if not to.is_constant(name)]
    if any(to.sizes(name) != to.sizes(moving[0]) for name in moving):
        raise NoAdjoint("Add of tensors of several sizes")
    return [signal] * 2


def _cast(_: Adjoint, node: NodeProto, signal: str, __: Method) -> Sequence[str]:
    if attributes(node)["to"] != TensorProto.FLOAT:
        raise NoAdjoint("Cast to anything but float32")
    return [signal]


def _unchanged(_: Adjoint, node: NodeProto, signal: str, __: Method) -> Sequence[str]:
    return [signal] * len(node.input)


def _reshaped(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    return [to.like(signal, node.input[0])]


def _transposed(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    order = np.argsort(attributes(node)["perm"]).tolist()
    return [to.one("Transpose", signal, perm=order)]


def _sub(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    return [signal, "" if to.is_constant(node.input[1]) else to.one("Neg", signal)]


def _scaled(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    """Mul and Div by a constant."""
    first, second = node.input
    if to.is_constant(second):
        return [to.one(node.op_type, signal, second)]
    if node.op_type == "Mul" and to.is_constant(first):
        return ["", to.one("Mul", signal, first)]
    raise NoAdjoint(f"{node.op_type} of two tensors, none of them a constant")


def _normalised(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    scale, variance = to.value(node.input[1]), to.value(node.input[4])
    factor = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
    return [to.one("Mul", signal, to.constant(_per_channel(factor, to.sizes(node.input[0]))))]


def _convolution(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    given = attributes(node)
    kernel = list(to.value(node.input[1]).shape[2:])
    return [_spread(to, node, signal, kernel, node.input[1], given.get("group", 1))]


def _average(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    given = attributes(node)
    if any(given.get("pads", ())) and not given.get("count_include_pad"):
        raise NoAdjoint("AveragePool that does not count its padding")
    kernel, channels = given["kernel_shape"], to.sizes(node.input[0])[0]
    even = to.constant(np.full((channels, 1, *kernel), 1 / prod(kernel)))
    return [_spread(to, node, signal, kernel, even, channels)]


def _spread(
    to: Adjoint, node: NodeProto, signal: str, kernel: list[int], weights: str, groups: int
) -> str:
    """The transposed convolution, whose last rows are those that the forward one never read."""
    given, axes = attributes(node), len(kernel)
    if given.get("auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"} or given.get("ceil_mode"):
        raise NoAdjoint(f"{node.op_type} whose padding depends on the size")
    strides = given.get("strides", [1] * axes)
    dilations = given.get("dilations", [1] * axes)
    pads = given.get("pads", [0] * 2 * axes)
    ends = zip(to.sizes(node.input[0])[1:], pads[:axes], pads[axes:], strict=True)
    reach = ((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    unread = [
        (size + before + after - r) % s
        for (size, before, after), r, s in zip(ends, reach, strides, strict=True)
    ]
    shape = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    return to.one("ConvTranspose", signal, weights, group=groups, output_padding=unread, **shape)


def _max_pool(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    if attributes(node).get("storage_order"):
        raise NoAdjoint("MaxPool that counts column by column")
    if len(node.output) == 1:
        node.output.append(f"adjoint/{node.output[0]}/places")
    return [to.scattered(signal, node.output[1], node.input[0])]


def _gathered(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    """Of a flat tensor: how torch.export writes some views."""
    data, places = node.input
    if to.sizes(data):
        raise NoAdjoint("Gather from more than one axis")
    return [to.scattered(signal, places, data)]


def _mean(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    share = 1 / prod(to.sizes(node.input[0])[axis - 1] for axis in _axes(to, node))
    even = to.one("Mul", _kept(to, node, signal), to.constant(share))
    return [to.one("Expand", even, to.one("Shape", node.input[0]))]


def _max(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    """Where there is more than one maximum they share, as in torch."""
    axes = to.constant(_axes(to, node), np.int64)
    most = to.one("Equal", node.input[0], _kept(to, node, node.output[0]))
    mask = to.one("Cast", most, to=TensorProto.FLOAT)
    share = to.one("Div", mask, to.one("ReduceSum", mask, axes, keepdims=1))
    return [to.one("Mul", share, _kept(to, node, signal))]


def _kept(to: Adjoint, node: NodeProto, name: str) -> str:
    """`name`, an output of a reduction or its signal, with the reduced axes at size 1."""
    if attributes(node).get("keepdims", 1):
        return name
    return to.one("Unsqueeze", name, to.constant(_axes(to, node), np.int64))


def _axes(to: Adjoint, node: NodeProto) -> list[int]:
    """Which axes a reduction goes over, the batch never."""
    rank = len(to.sizes(node.input[0])) + 1
    if node.op_type.startswith("Global"):
        return list(range(2, rank))
    if len(node.input) < 2:
        raise NoAdjoint(f"{node.op_type} over all axes")
    axes = sorted(int(axis) % rank for axis in to.value(node.input[1]))
    if 0 in axes:
        raise NoAdjoint(f"{node.op_type} over the batch")
    return axes


def _gemm(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    given = attributes(node)
    if given.get("transA") or given.get("alpha", 1.0) != 1.0:
        raise NoAdjoint("Gemm that transposes or scales its input")
    return [to.one("Gemm", signal, node.input[1], transB=1 - given.get("transB", 0))]


def _matmul(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    if to.value(node.input[1]).ndim != 2:
        raise NoAdjoint("MatMul with anything but a constant matrix")
    return [to.one("MatMul", signal, to.one("Transpose", node.input[1], perm=[1, 0]))]


def _joined(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    axis = attributes(node)["axis"]
    if axis <= 0:
        raise NoAdjoint("Concat of batches")
    parts = to.constant([to.sizes(name)[axis - 1] for name in node.input], np.int64)
    return to.emit("Split", signal, parts, outputs=len(node.input), axis=axis)


def _padded(to: Adjoint, node: NodeProto, signal: str, _: Method) -> Sequence[str]:
    if attributes(node).get("mode", b"constant") != b"constant" or len(node.input) > 3:
        raise NoAdjoint("Pad with anything but a constant on all axes")
    return [to.one("Pad", signal, to.constant(-to.value(node.input[1]), np.int64))]


def _relu(to: Adjoint, node: NodeProto, signal: str, method: Method) -> Sequence[str]:
    if method in ("deconvnet", "guided"):
        signal = to.one("Relu", signal)
    if method in ("gradient", "guided"):
        signal = to.one("Mul", signal, _where(to, "Greater", node.output[0], 0))
    return [signal]


def _clip(to: Adjoint, node: NodeProto, signal: str, method: Method) -> Sequence[str]:
    _smooth(node, method)
    for name, inside in zip(node.input[1:], ("Greater", "Less"), strict=False):
        if name:
            bound = to.value(name).item()
            signal = to.one("Mul", signal, _where(to, inside, node.output[0], bound))
    return [signal]


def _gelu(to: Adjoint, node: NodeProto, signal: str, method: Method) -> Sequence[str]:
    """x Φ(x) rises by Φ(x) + x φ(x)."""
    _smooth(node, method)
    if attributes(node).get("approximate", b"none") != b"none":
        raise NoAdjoint("Gelu by tanh")
    x = node.input[0]
    error = to.one("Erf", to.one("Mul", x, to.constant(1 / sqrt(2))))
    share = to.one("Mul", to.one("Add", error, to.constant(1)), to.constant(0.5))
    square = to.one("Mul", to.one("Mul", x, x), to.constant(-0.5))
    density = to.one("Mul", to.one("Exp", square), to.constant(1 / sqrt(2 * pi)))
    return [to.one("Mul", signal, to.one("Add", share, to.one("Mul", x, density)))]


def _smooth(node: NodeProto, method: Method) -> None:
    if method != "gradient":
        raise NoAdjoint(f"{method} is defined for Relu, not for {node.op_type}")


def _where(to: Adjoint, comparison: str, name: str, bound: float) -> str:
    holds = to.one(comparison, name, to.constant(bound))
    return to.one("Cast", holds, to=TensorProto.FLOAT)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Identity", "Dropout"), _unchanged),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("Mul", "Div"), _scaled),
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool"), _mean),
    **dict.fromkeys(("ReduceMax", "GlobalMaxPool"), _max),
    "Add": _added,
    "AveragePool": _average,
    "BatchNormalization": _normalised,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _joined,
    "Conv": _convolution,
    "Gather": _gathered,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Pad": _padded,
    "Relu": _relu,
    "Sub": _sub,
    "Transpose": _transposed,
}


def _constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def _sizes(value: onnx.ValueInfoProto) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]


def _per_channel(values: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
    return values.reshape(-1, *[1] * (len(sizes) - 1))
