"""Networks to be timed: `python -m loadtests.nets STORE` writes their artifacts.

Shapes that everybody knows with seeded weights: what they say means nothing, what they cost does.
Normalisation behind a convolution is folded into it, as exporters do. A network that costs nothing
is in `nulls`.
"""

import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from loadtests.nulls import described, digest, publish
from loadtests.peers.classifier import decode

OPSET = 20
SPREAD = 2.0
"""The deviation of the logits for the sample: some labels are likelier than others."""


class Net:
    """A graph in the making; every method adds a layer behind what it is given, and names it."""

    def __init__(self, side: int, labels: int) -> None:
        self.side, self.labels = side, labels
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, NDArray[np.float32]] = {}
        self._random = np.random.default_rng(0)
        self._numbers = count()

    def pixels(self) -> str:
        """The picture, uint8 [N, side, side, 3], as numbers around 0, [N, 3, side, side]."""
        numbers = self.node("Cast", "image", to=TensorProto.FLOAT)
        centred = self.node("Sub", numbers, self._weight(np.array(127.5)))
        scaled = self.node("Div", centred, self._weight(np.array(64.0)))
        return self.node("Transpose", scaled, perm=[0, 3, 1, 2])

    def convolution(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        """A convolution with a bias whose output is as large as its input, by `stride`."""
        weights = self._normal((outputs, inputs, kernel, kernel), inputs * kernel**2)
        bias = self._weight(np.zeros(outputs))
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.node("Conv", x, weights, bias, **window)

    def rectified(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        """A convolution and a rectifier."""
        return self.node("Relu", self.convolution(x, inputs, outputs, kernel, stride))

    def pooled(self, x: str, kernel: int = 2) -> str:
        """The maxima of windows, at every second place."""
        pads = [kernel // 2 if kernel % 2 else 0] * 4
        return self.node("MaxPool", x, kernel_shape=[kernel] * 2, strides=[2, 2], pads=pads)

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        """A layer of a matrix and a bias."""
        return self.node("Gemm", x, self._normal((inputs, outputs), inputs), self._zeros(outputs))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Any operator."""
        name = f"{kind.lower()}_{next(self._numbers)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def finished(self, logits: str, sample: NDArray[np.uint8]) -> onnx.ModelProto:
        """The graph that answers with probabilities, of a deviation that is usual for `sample`."""
        (said,) = ort.InferenceSession(
            self._model(logits).SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(None, {"image": sample[None]})
        usual = self.node("Mul", logits, self._weight(np.array(SPREAD / said.std())))
        self._nodes.append(helper.make_node("Softmax", [usual], ["probabilities"], name="softmax"))
        return self._model("probabilities")

    def parameters(self) -> int:
        """How many numbers there are in convolutions and matrices, and their biases."""
        return sum(array.size for array in self._weights.values() if array.ndim)

    def _model(self, output: str) -> onnx.ModelProto:
        image = helper.make_tensor_value_info(
            "image", TensorProto.UINT8, ["n", self.side, self.side, 3]
        )
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", self.labels])
        weights = [numpy_helper.from_array(value, name) for name, value in self._weights.items()]
        graph = helper.make_graph(self._nodes, "net", [image], [result], weights)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _normal(self, shape: tuple[int, ...], inputs: int) -> str:
        return self._weight(self._random.normal(0, np.sqrt(2 / inputs), shape))

    def _zeros(self, size: int) -> str:
        return self._weight(np.zeros(size))

    def _weight(self, value: NDArray[np.float64]) -> str:
        name = f"weight_{next(self._numbers)}"
        self._weights[name] = value.astype(np.float32)
        return name


def cifar_cnn() -> tuple[Net, str]:
    """0.97 M parameters: five convolutions, two matrices, 32×32."""
    net = Net(32, 10)
    x = net.rectified(net.rectified(net.pixels(), 3, 64, 3), 64, 64, 3)
    x = net.rectified(net.rectified(net.pooled(x), 64, 128, 3), 128, 128, 3)
    x = net.pooled(net.rectified(net.pooled(x), 128, 256, 3))
    x = net.node("Relu", net.dense(net.node("Flatten", x), 4096, 100))
    return net, net.dense(x, 100, 10)


def resnet18() -> tuple[Net, str]:
    """He et al., 1512.03385: two convolutions a block, 224×224."""

    def block(net: Net, x: str, inputs: int, width: int, stride: int) -> tuple[str, int]:
        inner = net.rectified(x, inputs, width, 3, stride)
        return net.convolution(inner, width, width, 3), width

    return _residual((2, 2, 2, 2), block)


def resnet50() -> tuple[Net, str]:
    """The same with bottlenecks, which halve in their 3×3 convolutions as today's do."""

    def block(net: Net, x: str, inputs: int, width: int, stride: int) -> tuple[str, int]:
        inner = net.rectified(net.rectified(x, inputs, width, 1), width, width, 3, stride)
        return net.convolution(inner, width, 4 * width, 1), 4 * width

    return _residual((3, 4, 6, 3), block)


Block = Callable[[Net, str, int, int, int], tuple[str, int]]


def _residual(depths: tuple[int, ...], block: Block) -> tuple[Net, str]:
    net = Net(224, 1000)
    x, channels = net.pooled(net.rectified(net.pixels(), 3, 64, 7, stride=2), 3), 64
    for stage, depth in enumerate(depths):
        for place in range(depth):
            stride = 2 if stage and not place else 1
            further, outputs = block(net, x, channels, 64 * 2**stage, stride)
            if (stride, outputs) != (1, channels):
                x = net.convolution(x, channels, outputs, 1, stride)
            x, channels = net.node("Relu", net.node("Add", further, x)), outputs
    flat = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net, net.dense(flat, channels, 1000)


NETS = {"cifar_cnn": cifar_cnn, "resnet18": resnet18, "resnet50": resnet50}


def write(name: str, store: Path) -> Path:
    """Put a network into `store` as version 1 of an artifact; returns its directory."""
    net, logits = NETS[name]()
    folder = store / name / "1"
    (folder / "samples").mkdir(parents=True)
    media_type, sample = picture(net.side)
    pixels = decode(sample, net.side)
    graph = folder / "model.onnx"
    onnx.save(net.finished(logits, pixels), graph)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (row,) = session.run(None, {"image": pixels[None]})[0]
    file = f"samples/picture.{media_type.removeprefix('image/')}"
    (folder / file).write_bytes(sample)
    expected = {str(i): float(row[i]) for i in np.argsort(-row)[:50]}
    manifest = {
        "schema_version": 1,
        "id": name,
        "version": "1",
        "title": f"{name} with random weights, to be timed",
        "task": "classification",
        "graphs": {"predict": described(graph, OPSET)},
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, net.side, net.side, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, net.labels]}],
        "preprocess": {
            "modality": "image",
            "steps": [
                {"op": "decode"},
                {"op": "resize", "shorter": net.side, "filter": "bicubic"},
                {"op": "center_crop", "size": [net.side, net.side]},
            ],
        },
        "postprocess": {"kind": "classification", "labels": [str(i) for i in range(net.labels)]},
        "goldens": [
            {
                "input": file,
                "sha256": digest(sample),
                "media_type": media_type,
                "expected": expected,
                "tolerance": 0.01,
            }
        ],
    }
    publish(manifest, folder)
    return folder


def picture(side: int) -> tuple[str, bytes]:
    """A small PNG, or a JPEG of 62 KiB: clouds and noise, square, so that nothing is cut off."""
    random, large = np.random.default_rng(0), 448
    clouds = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((large, large))
    noisy = np.asarray(clouds, np.float32) + random.normal(0, 12, (large, large, 3))
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    stream = BytesIO()
    if side <= 64:
        image.resize((side, side)).save(stream, "png")
        return "image/png", stream.getvalue()
    image.save(stream, "jpeg", quality=87)
    return "image/jpeg", stream.getvalue()


def main() -> Iterator[Path]:
    """Write all of them to the store that the command line names."""
    for name in NETS:
        yield write(name, Path(sys.argv[1]))


if __name__ == "__main__":
    for path in main():
        print(path)
