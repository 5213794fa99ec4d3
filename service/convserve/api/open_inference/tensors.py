"""Tensors of a request ↔ single inputs and outputs of a model."""

import math
from collections.abc import Iterator, Sequence
from heapq import nlargest

import numpy as np

from convserve.api.bodies import ADVICE, decode_base64
from convserve.api.open_inference.codec import InferRequest, Tensor, Wanted
from convserve.api.open_inference.datatypes import BYTES, DTYPES, Array, from_bytes
from convserve.engine import Arrays
from convserve.errors import InvalidInput, MalformedRequest
from convserve.manifest import Tensor as Stated
from convserve.served_model import ServedModel
from convserve.settings import suggestion

RAW = 0  # the length of the JSON in front of a body that is one tensor and nothing else


def raw(model: ServedModel, body: bytes, content_type: str) -> InferRequest:
    """Read a body that is nothing but the model's one input.

    An encoded picture or a text (by its Content-Type) is one element of BYTES; everything else
    is the rows of the tensor, one after the other.
    """
    inputs = model.artifact.manifest.inputs
    if len(inputs) != 1:
        raise InvalidInput(f"a raw body needs a model of one input; {model.id} has {len(inputs)}")
    if content_type.startswith("application/json"):
        raise MalformedRequest(
            "Inference-Header-Content-Length 0 tells of a body without JSON, Content-Type of JSON: "
            "leave one of them out"
        )
    (stated,) = inputs
    if stated.datatype == BYTES or content_type.startswith(("image/", "text/")):
        element = np.empty((1,) * max(1, len(stated.shape)), object)
        element[...] = body
        tensor = Tensor(stated.name, BYTES, element.reshape(1, -1))
    else:
        array = from_bytes(memoryview(body), stated.datatype, _raw_shape(stated, len(body)), "")
        tensor = Tensor(stated.name, stated.datatype, array)
    return InferRequest([tensor], parameters={"binary_data_output": True})


def _raw_shape(stated: Stated, size: int) -> list[int]:
    """Fill the one dynamic axis by the size in bytes: the batch if no other is dynamic."""
    row = stated.shape[1:]
    known = math.prod(axis for axis in row if axis != -1) * DTYPES[stated.datatype].itemsize
    free = size // known if known else 0
    if row.count(-1) > 1 or free * known != size or not size:
        raise InvalidInput(
            f"{size} bytes are no {stated.datatype} tensor of shape {list(stated.shape)}"
        )
    return [1, *(free if axis == -1 else axis for axis in row)] if -1 in row else [free, *row]


def is_encoded(model: ServedModel, tensors: Sequence[Tensor]) -> bool:
    """Tell whether encoded pictures or texts stand where the model's own tensor would."""
    stated = model.artifact.manifest.inputs
    return (
        model.modality in ADVICE
        and len(tensors) == 1
        and tensors[0].datatype == BYTES
        and tensors[0].name == stated[0].name
        and stated[0].datatype != BYTES
    )


def elements(model: ServedModel, tensor: Tensor, limit: int, *, text: bool) -> Iterator[bytes]:
    """Return the raw inputs that a BYTES tensor [n] or [n, 1] holds; as `text`, all but texts
    in base64.

    Raises InvalidInput.
    """
    count = _count([tensor], limit)
    if tensor.array.size != count:
        shape = list(tensor.array.shape)
        raise InvalidInput(f"encoded inputs have the shape [n, 1], not {shape}", "/inputs/0/shape")
    for place, element in enumerate(tensor.array.flat):
        if text and model.modality != "text":
            yield decode_base64(model.modality, element.decode(), f"/inputs/0/data/{place}")
        else:
            yield element


def items(model: ServedModel, tensors: Sequence[Tensor], limit: int) -> list[Arrays]:
    """Return the single inputs in a batch of at most `limit`; raises InvalidInput."""
    given = {tensor.name: (place, tensor) for place, tensor in enumerate(tensors)}
    stated = {tensor.name: tensor for tensor in model.artifact.manifest.inputs}
    for name, (place, tensor) in given.items():
        _check(tensor, stated, name, f"/inputs/{place}")
    if missing := stated.keys() - given.keys():
        raise InvalidInput(f"the input {sorted(missing)[0]!r} is missing", "/inputs")
    count = _count(tensors, limit)
    arrays = {name: _for_graph(given[name][1].array) for name in stated}
    return [{name: array[row] for name, array in arrays.items()} for row in range(count)]


def _check(tensor: Tensor, stated: dict[str, Stated], name: str, pointer: str) -> None:
    if name not in stated:
        close = suggestion(name, stated)
        known = ", ".join(stated)
        raise InvalidInput(
            f"there is no input {name[:100]!r}{close}; there is {known}", f"{pointer}/name"
        )
    expected = stated[name]
    if tensor.datatype != expected.datatype:
        raise InvalidInput(
            f"{name} is {expected.datatype}, not {tensor.datatype}", f"{pointer}/datatype"
        )
    shape = tensor.array.shape
    row = expected.shape[1:]
    fits = len(shape) == len(expected.shape) and all(
        size in (-1, actual) for size, actual in zip(row, shape[1:], strict=True)
    )
    if not fits:
        wanted = [-1, *row]
        raise InvalidInput(
            f"{name} has the shape {list(shape)}; {wanted} is expected, where -1 is any size",
            f"{pointer}/shape",
        )


def _count(tensors: Sequence[Tensor], limit: int) -> int:
    counts = {tensor.array.shape[0] if tensor.array.ndim else 0 for tensor in tensors}
    if len(counts) != 1:
        raise InvalidInput("the first axis, the batch, differs between inputs", "/inputs")
    (count,) = counts
    if not 1 <= count <= limit:
        raise InvalidInput(f"a batch holds 1 to {limit} inputs, not {count}", "/inputs/0/shape/0")
    return count


def _for_graph(array: Array) -> Array:
    """Return what ONNX Runtime reads: its strings are text."""
    if array.dtype != object:
        return array
    try:
        return np.vectorize(bytes.decode, otypes=[object])(array) if array.size else array
    except UnicodeDecodeError:
        raise InvalidInput("the strings of this model must be UTF-8", "/inputs") from None


def answers(
    model: ServedModel, request: InferRequest, rows: Sequence[Arrays]
) -> list[tuple[Tensor, bool]]:
    """Return the outputs that were asked for, and which of them as bytes; raises InvalidInput."""
    stated = {tensor.name: tensor for tensor in model.artifact.manifest.outputs}
    found = []
    for wanted in check_outputs(model, request):
        array = _from_graph(np.stack([row[wanted.name] for row in rows]))
        tensor = Tensor(wanted.name, stated[wanted.name].datatype, array)
        if wanted.classes:
            labels = model.labels if model.task == "classification" else ()
            tensor = _classified(tensor, wanted.classes, labels)
        found.append((tensor, request.binary if wanted.binary is None else wanted.binary))
    return found


def check_outputs(model: ServedModel, request: InferRequest) -> list[Wanted]:
    """Return the outputs that are asked for; raises InvalidInput if there is no such."""
    known = {tensor.name: tensor for tensor in model.artifact.manifest.outputs}
    wanted = [Wanted(name) for name in known] if request.outputs is None else request.outputs
    for place, output in enumerate(wanted):
        pointer = f"/outputs/{place}"
        if output.name not in known:
            close, names = suggestion(output.name, known), ", ".join(known)
            raise InvalidInput(
                f"there is no output {output.name[:100]!r}{close}; there is {names}",
                f"{pointer}/name",
            )
        if output.classes and known[output.name].datatype in ("BOOL", BYTES):
            raise InvalidInput("only numbers have an order", f"{pointer}/parameters/classification")
    return wanted


def _from_graph(array: Array) -> Array:
    if array.dtype.kind not in "OU":
        return array
    return np.vectorize(str.encode, otypes=[object])(array) if array.size else array.astype(object)


def _classified(tensor: Tensor, classes: int, labels: Sequence[str]) -> Tensor:
    """Return the best classes of each row as `value:index:label` (Triton's classification)."""
    found = []
    for row in tensor.array.reshape(len(tensor.array), -1).tolist():
        best = nlargest(classes, range(len(row)), key=row.__getitem__)
        found.append([_class(row[place], place, labels).encode() for place in best])
    return Tensor(tensor.name, BYTES, np.array(found, object))


def _class(value: float, place: int, labels: Sequence[str]) -> str:
    return f"{value:f}:{place}:{labels[place]}" if place < len(labels) else f"{value:f}:{place}"
