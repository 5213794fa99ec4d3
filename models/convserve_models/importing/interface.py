"""What goes into a graph and what comes out, or why that is no picture and no scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto, TensorProto, ValueInfoProto

from convserve_models.importing.refusal import TORCH, Refusal
from convserve_models.importing.request import Pixels

TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8}
SYMPTOMS = {
    "opset": (
        "opset_too_new",
        "export with a lower opset, opset_version=20 say, or convert it: "
        "onnx.version_converter.convert_version(model, 20)",
    ),
    "IR version": (
        "ir_too_new",
        "save it again with model.ir_version = 10, or export with an older onnx package",
    ),
    "NOT_IMPLEMENTED": (
        "not_implemented",
        "export in float32 with operators that ONNX Runtime has on the CPU",
    ),
    "ShapeInferenceError": ("wrong_shapes", f"export again instead of editing shapes; {TORCH}"),
    "Type Error": ("wrong_types", f"export again instead of editing types; {TORCH}"),
    "Type parameter": ("wrong_types", f"export again instead of editing types; {TORCH}"),
    "bad_alloc": ("memory", "give it more with --memory, in GiB"),
    "Failed to allocate": ("memory", "give it more with --memory, in GiB"),
}
"""What ONNX Runtime's message contains → the diagnosis's code and remedy."""


@dataclass(frozen=True)
class Interface:
    """The one input, a picture, and the one output, the scores of the labels."""

    input: str
    element: int
    channels_last: bool
    size: tuple[int | None, int | None]
    batch: int | None
    output: str


def session(path: Path, model: ModelProto) -> ort.InferenceSession:
    """Load a model into ONNX Runtime; raises Refusal that names `path`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise diagnosis(path, "does not load", error, "invalid_graph") from None


def diagnosis(path: Path, what: str, error: Exception, otherwise: str) -> Refusal:
    """What ONNX Runtime's own message means."""
    said = str(error) or type(error).__name__
    code, remedy = next(
        (known for symptom, known in SYMPTOMS.items() if symptom in said),
        (otherwise, f"run it with onnxruntime where it was exported, then export again; {TORCH}"),
    )
    return Refusal(code, f"{path} {what}: {said}", remedy)


def examine(path: Path, model: ModelProto, pixels: Pixels, output: str | None) -> Interface:
    """Find the picture and the scores; raises Refusal."""
    given = _only_input(path, model)
    dims, element = _dims(given), given.type.tensor_type.elem_type
    what = f"{path}: the input {given.name!r} is a {_words(given)}"
    if not given.type.HasField("tensor_type") or element not in TYPES:
        raise Refusal(
            "input_type",
            f"{what}; a picture is float32, float16 or uint8",
            "export a network that takes the picture's pixels, not ids or lists",
        )
    if len(dims) != 4:
        raise Refusal(
            "input_rank",
            f"{what}; a batch of pictures has four axes [N, 3, H, W] or [N, H, W, 3]",
            f"export with an example of four axes, torch.zeros(2, 3, 224, 224) say; {TORCH}",
        )
    channels_last = dims[3] == 3 and dims[1] != 3
    if not channels_last and dims[1] != 3:
        raise Refusal(
            "input_channels",
            f"{what}; neither axis 1 nor axis 3 is the three colours",
            "export a network that takes RGB: put the conversion to grey, or the fourth channel, "
            f"into its forward, and state the colours' axis; {TORCH}",
        )
    height, width = (dims[1], dims[2]) if channels_last else (dims[2], dims[3])
    _check_size(what, (height, width), pixels)
    taken = _only_output(path, model, output)
    return Interface(given.name, element, channels_last, (height, width), dims[0], taken.name)


def _only_input(path: Path, model: ModelProto) -> ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in weights]
    if len(given) != 1:
        names = ", ".join(f"{value.name} ({_words(value)})" for value in given) or "none"
        raise Refusal(
            "inputs",
            f"{path} has {len(given)} inputs: {names}; a picture is one",
            f"export the network with the picture as its only argument; {TORCH}",
        )
    picture: ValueInfoProto = given[0]
    return picture


def _check_size(what: str, size: tuple[int | None, int | None], pixels: Pixels) -> None:
    stated = (pixels.height, pixels.width)
    if pixels.fixed and any(
        side not in (None, own) for own, side in zip(stated, size, strict=True)
    ):
        raise Refusal(
            "input_size",
            f"{what}, the preprocessing leaves {pixels.height}×{pixels.width} pixels",
            f'write "size": [{size[0] or pixels.height}, {size[1] or pixels.width}] into its '
            "center_crop, or export with dynamic height and width",
        )


def _only_output(path: Path, model: ModelProto, name: str | None) -> ValueInfoProto:
    outputs = {value.name: value for value in model.graph.output}
    told = ", ".join(f"{value.name} ({_words(value)})" for value in outputs.values())
    if name is None and len(outputs) != 1:
        raise Refusal(
            "outputs",
            f"{path} has {len(outputs)} outputs: {told}",
            "name the one with the scores of the labels: --output NAME",
        )
    if name is not None and name not in outputs:
        raise Refusal(
            "outputs", f"{path} has no output {name!r}; it has {told}", "name one of them"
        )
    found: ValueInfoProto = outputs[name] if name else next(iter(outputs.values()))
    _check_output(path, found)
    return found


def _check_output(path: Path, found: ValueInfoProto) -> None:
    tensor = found.type.tensor_type
    what = f"{path}: the output {found.name!r} is a {_words(found)}"
    if not found.type.HasField("tensor_type") or tensor.elem_type not in TYPES - {
        TensorProto.UINT8
    }:
        raise Refusal(
            "output_type",
            f"{what}, no score for each label",
            "export the scores (logits or probabilities), without argmax, top-k or zipmap",
        )
    if tensor.HasField("shape") and len(tensor.shape.dim) != 2:
        raise Refusal(
            "output_rank",
            f"{what}; scores have two axes [N, labels], and a softmax needs the second",
            f"flatten the output in the network's forward: scores.flatten(1); {TORCH}",
        )


def _dims(value: ValueInfoProto) -> list[int | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in value.type.tensor_type.shape.dim
    ]


def _words(value: ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return str(value.type.WhichOneof("value")).removesuffix("_type")
    tensor = value.type.tensor_type
    kind = TensorProto.DataType.Name(tensor.elem_type).lower()
    if not tensor.HasField("shape"):
        return f"{kind} of no stated shape"
    sides = (dim.dim_param or str(dim.dim_value or "?") for dim in tensor.shape.dim)
    return f"{kind} [{', '.join(sides)}]"
