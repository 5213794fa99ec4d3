"""Somebody else's networks: tiny real exports, whole ones and broken ones.

The network averages a picture's colours and scores three labels by them: all that an importer can
stumble over fits around that.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from PIL import Image

from convserve_models.importing import Request

LABELS = ("red", "green", "blue")
SIDE = 8
WEIGHTS = np.array([[4, -1, -1], [-1, 4, -1], [-1, -1, 4]], np.float32)
FILE = (
    f'{{"steps": [{{"op": "decode"}}, {{"op": "resize", "shorter": {SIDE}}}, '
    f'{{"op": "center_crop", "size": [{SIDE}, {SIDE}]}}], "mean": [0.2, 0.3, 0.4], '
    '"std": [0.5, 0.25, 0.125]}'
)
MEAN, STD = np.array([0.2, 0.3, 0.4]), np.array([0.5, 0.25, 0.125])

node = helper.make_node
Shape = Sequence[str | int | None]


@dataclass
class Export:
    """A graph in parts, so that a test can change one of them. `features` is `[N, 3]`."""

    shape: Shape = ("n", 3, SIDE, SIDE)
    kind: int = TensorProto.FLOAT
    before: list[NodeProto] = field(
        default_factory=lambda: [node("ReduceMean", ["x"], ["features"], axes=[2, 3], keepdims=0)]
    )
    scores: list[NodeProto] = field(
        default_factory=lambda: [node("MatMul", ["features", "weights"], ["scores"])]
    )
    weights: dict[str, NDArray[Any]] = field(default_factory=lambda: {"weights": WEIGHTS})
    taken: Shape | None = ("n", 3)
    taken_kind: int = TensorProto.FLOAT
    output: str = "scores"
    opset: int = 17
    domains: Sequence[str] = ()

    def model(self) -> ModelProto:
        """Return it as a model, unchecked."""
        given = helper.make_tensor_value_info("x", self.kind, self.shape)
        taken = helper.make_tensor_value_info(self.output, self.taken_kind, self.taken)
        constants = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(
            [*self.before, *self.scores], "colours", [given], [taken], constants
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, 1) for domain in self.domains]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def content(self) -> bytes:
        """Return it as a file."""
        return bytes(self.model().SerializeToString())


def jpeg(colour: tuple[int, int, int] = (230, 40, 20)) -> bytes:
    """A photo of a wall."""
    stream = io.BytesIO()
    Image.new("RGB", (90, 60), colour).save(stream, "JPEG")
    return stream.getvalue()


def request(folder: Path, network: bytes | None, **changes: str) -> Request:
    """Write the files of an import into `folder` and return what asks for it."""
    if network is not None:
        (folder / "net.onnx").write_bytes(network)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (folder / "steps.json").write_text(FILE)
    (folder / "photo.jpg").write_bytes(jpeg())
    for file, text in changes.items():
        if file in FILES:
            (folder / FILES[file]).write_text(text)
    words = {
        "network": str(folder / "net.onnx"),
        "labels": str(folder / "labels.txt"),
        "preprocess": str(folder / "steps.json"),
        "sample": str(folder / "photo.jpg"),
        "expect": "red",
        "name": "colours",
    }
    return Request(**words | {k: v for k, v in changes.items() if k not in FILES})


FILES = {"labels_text": "labels.txt", "steps_text": "steps.json", "photo_text": "photo.jpg"}


def external(location: str, length: int = 36) -> bytes:
    """The network with its weights in another file."""
    model = Export().model()
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def changed(change: Callable[[ModelProto], object]) -> bytes:
    """The network with something changed that no exporter would."""
    model = Export().model()
    change(model)
    return bytes(model.SerializeToString())


def then(*nodes: NodeProto, **parts: Any) -> bytes:
    """The network with nodes behind its scores, which end in `end`."""
    weights = {"weights": WEIGHTS, **parts.pop("weights", {})}
    scores = [*Export().scores, *nodes]
    return Export(scores=scores, weights=weights, output="end", **parts).content()


def endless() -> bytes:
    """A loop that nobody will see the end of."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["inside", "inside"], ["out"])],
        "round",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("inside", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, None),
        ],
    )
    rounds = {"rounds": np.array(2**62), "yes": np.array(True)}
    return then(node("Loop", ["rounds", "yes", "scores"], ["end"], body=body), weights=rounds)


def huge() -> bytes:
    """A petabyte of zeros."""
    return then(
        node("ConstantOfShape", ["shape"], ["zeros"]),
        node("ReduceSum", ["zeros"], ["nothing"], keepdims=0),
        node("Add", ["scores", "nothing"], ["end"]),
        weights={"shape": np.array([2**48])},
    )


def no_weights(model: ModelProto) -> None:
    """State more weights than there are."""
    model.graph.initializer[0].raw_data = struct.pack("<f", 1.0)


def two_outputs(model: ModelProto) -> None:
    """Give the features, too."""
    extra = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])
    model.graph.output.append(extra)


def two_inputs(model: ModelProto) -> None:
    """Take a mask, too."""
    mask = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["n"])
    model.graph.input.append(mask)


@dataclass(frozen=True)
class Broken:
    """An import that cannot be, the diagnosis that it must get, and words that must be in it."""

    name: str
    code: str
    words: str
    network: Callable[[], bytes] | None = lambda: Export().content()
    changes: dict[str, str] = field(default_factory=dict)


def _of(**parts: Any) -> Callable[[], bytes]:
    return lambda: Export(**parts).content()


BROKEN = [
    Broken("no file", "no_file", "net.onnx cannot be read", None),
    Broken("empty file", "empty", "is empty", lambda: b""),
    Broken("a checkpoint", "not_onnx", "PyTorch checkpoint.*export", lambda: b"PK\3\4" + bytes(99)),
    Broken("a web page", "not_onnx", "web page", lambda: b"<!doctype html><title>404</title>"),
    Broken("an LFS pointer", "not_onnx", "git lfs pull", lambda: b"version https://git-lfs.x/v1\n"),
    Broken("noise", "not_onnx", "no ONNX file", lambda: bytes(range(255, 0, -1))),
    Broken("truncated", "truncated", "breaks off", lambda: Export().content()[:-40]),
    Broken("opset of tomorrow", "opset_too_new", "lower opset", _of(opset=99)),
    Broken(
        "IR of tomorrow",
        "ir_too_new",
        "ir_version",
        lambda: changed(lambda m: setattr(m, "ir_version", 99)),
    ),
    Broken(
        "custom operator",
        "custom_operator",
        "'Blur' of 'com.example'",
        lambda: then(
            node("Blur", ["scores"], ["end"], domain="com.example"), domains=["com.example"]
        ),
    ),
    Broken(
        "unknown operator",
        "unknown_operator",
        "'Fancy'",
        lambda: then(node("Fancy", ["scores"], ["end"])),
    ),
    Broken(
        "external data missing",
        "external_data_missing",
        "'weights.bin'.*not beside",
        lambda: external("weights.bin"),
    ),
    Broken(
        "external data above",
        "external_data_escapes",
        "outside",
        lambda: external("../weights.bin"),
    ),
    Broken(
        "external data absolute",
        "external_data_escapes",
        "outside",
        lambda: external("/etc/passwd"),
    ),
    Broken(
        "external data short",
        "external_data_short",
        "end at byte 99",
        lambda: external("labels.txt", 99),
    ),
    Broken("weights cut", "damaged_weights", "'weights'", lambda: changed(no_weights)),
    Broken("two inputs", "inputs", "2 inputs.*mask", lambda: changed(two_inputs)),
    Broken(
        "ids",
        "input_type",
        "int64",
        _of(
            kind=TensorProto.INT64,
            before=[
                node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
                node("ReduceMean", ["f"], ["features"], axes=[2, 3], keepdims=0),
            ],
        ),
    ),
    Broken(
        "flat input",
        "input_rank",
        "four axes",
        _of(shape=("n", 3), before=[node("Identity", ["x"], ["features"])]),
    ),
    Broken(
        "grey input",
        "input_channels",
        "three colours",
        _of(
            shape=("n", 1, SIDE, SIDE),
            before=[
                node("Concat", ["x", "x", "x"], ["rgb"], axis=1),
                node("ReduceMean", ["rgb"], ["features"], axes=[2, 3], keepdims=0),
            ],
        ),
    ),
    Broken("other size", "input_size", "16.*leaves 8×8", _of(shape=("n", 3, 16, 16))),
    Broken("two outputs", "outputs", "--output NAME", lambda: changed(two_outputs)),
    Broken("no such output", "outputs", "no output 'logits'", changes={"output": "logits"}),
    Broken(
        "score maps",
        "output_rank",
        "softmax needs the second",
        lambda: then(
            node("Unsqueeze", ["scores", "last"], ["end"]),
            weights={"last": np.array([2])},
            taken=("n", 3, 1),
        ),
    ),
    Broken(
        "hidden score maps",
        "output_rank",
        r"\[5, 3, 1\]",
        lambda: then(
            node("Unsqueeze", ["scores", "last"], ["end"]),
            weights={"last": np.array([2])},
            taken=None,
        ),
    ),
    Broken(
        "argmax",
        "output_type",
        "argmax",
        lambda: then(
            node("ArgMax", ["scores"], ["end"], axis=1),
            taken=("n", 1),
            taken_kind=TensorProto.INT64,
        ),
    ),
    Broken("wrong shapes", "wrong_shapes", "7", _of(taken=("n", 7))),
    Broken(
        "wrong types",
        "wrong_types",
        "export",
        lambda: then(node("Add", ["scores", "one"], ["end"]), weights={"one": np.array(1)}),
    ),
    Broken(
        "loose end",
        "invalid_graph",
        "'nowhere'|nowhere",
        lambda: then(node("Add", ["scores", "nowhere"], ["end"])),
    ),
    Broken(
        "fixed batch",
        "fixed_batch",
        "fixed at 1.*flatten",
        lambda: then(
            node("Reshape", ["scores", "row"], ["end"]),
            weights={"row": np.array([1, 3])},
            shape=(1, 3, SIDE, SIDE),
            taken=(1, 3),
        ),
    ),
    Broken(
        "fixed batch of four",
        "fixed_batch",
        "fixed at 4",
        lambda: then(
            node("Reshape", ["scores", "rows"], ["end"]),
            weights={"rows": np.array([4, 3])},
            shape=(4, 3, SIDE, SIDE),
            taken=(4, 3),
        ),
    ),
    Broken(
        "claimed dynamic batch",
        "fixed_batch",
        "stated as dynamic and is not",
        lambda: then(
            node("Reshape", ["scores", "row"], ["end"]),
            weights={"row": np.array([1, -1])},
            taken=("n", "k"),
        ),
    ),
    Broken(
        "batch statistics",
        "batch_variance",
        "model.eval()",
        lambda: then(
            node("ReduceMean", ["scores"], ["mean"], axes=[0]),
            node("Sub", ["scores", "mean"], ["end"]),
        ),
    ),
    Broken(
        "dropout",
        "random",
        "model.eval()",
        lambda: then(
            node("RandomNormalLike", ["scores"], ["noise"]),
            node("Add", ["scores", "noise"], ["end"]),
        ),
    ),
    Broken(
        "not finite",
        "not_finite",
        "for the sample, noise",
        lambda: then(
            node("Sub", ["scores", "scores"], ["zero"]), node("Div", ["scores", "zero"], ["end"])
        ),
    ),
    Broken(
        "several labels at once",
        "not_exclusive",
        "sigmoid",
        lambda: then(node("Sigmoid", ["scores"], ["end"])),
    ),
    Broken("never trained", "constant", "trained weights", _of(weights={"weights": 0 * WEIGHTS})),
    Broken(
        "too many labels",
        "labels_count",
        "3 scores.*4 labels.*background",
        changes={"labels_text": "none\nred\ngreen\nblue"},
    ),
    Broken("same label twice", "labels_twice", "'red'", changes={"labels_text": "red\ngreen\nred"}),
    Broken("empty label", "labels_empty", "line 2", changes={"labels_text": "red\n\nblue"}),
    Broken(
        "no labels",
        "labels_unreadable",
        "cannot be read",
        changes={"labels": "/nowhere/labels.txt"},
    ),
    Broken("other label", "expected_not_top", "not green", changes={"expect": "green"}),
    Broken(
        "blue before red",
        "expected_not_top",
        '"channels": "BGR" in the',
        changes={"expect": "blue"},
    ),
    Broken("no such label", "expected_unknown", "red", changes={"expect": "reed"}),
    Broken("no picture", "sample", "no picture", changes={"photo_text": "a thousand words"}),
    Broken("no preset", "preprocess_unknown", "imagenet, cifar", changes={"preprocess": "imagnet"}),
    Broken("no steps", "preprocess_wrong", "steps", changes={"steps_text": "{}"}),
    Broken(
        "wrong step",
        "preprocess_wrong",
        "shorter",
        changes={"steps_text": FILE.replace(": 8}", ": 0}")},
    ),
    Broken("no name", "name", "--name", changes={"name": "Colours!"}),
    Broken("endless", "time", "loop", endless),
    Broken("huge", "memory", "--memory", huge),
]
