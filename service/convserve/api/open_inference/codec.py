"""Bodies of the protocol ↔ requests and responses: JSON, and JSON followed by binary tensors."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from convserve.api.open_inference.datatypes import (
    Array,
    dtype_of,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)
from convserve.errors import InvalidInput, MalformedRequest

SHARED_MEMORY = "shared_memory_region"
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array, and its datatype in the protocol's words."""

    name: str
    datatype: str
    array: Array


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is asked for, as bytes or JSON; with `classes`, the so many best of them.

    `binary` None leaves it to the request as a whole.
    """

    name: str
    binary: bool | None = None
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request; `outputs` None means all of them."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Wanted] | None = None
    parameters: Object = field(default_factory=dict)

    @property
    def binary(self) -> bool:
        """Tell whether outputs that say nothing of it come as bytes."""
        return bool(self.parameters.get("binary_data_output"))


def decode(body: bytes, header_length: int | None) -> InferRequest:
    """Read a request; its first `header_length` bytes are JSON, None: all of it.

    Raises MalformedRequest, or InvalidInput with the place.
    """
    length = len(body) if header_length is None else header_length
    if length > len(body):
        raise MalformedRequest(
            f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes"
        )
    view = memoryview(body)
    document = _object(_parse(view[:length]), "")
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidInput("id must be a string", "/id")
    return InferRequest(
        _inputs(document.get("inputs"), view[length:]),
        identity,
        _outputs(document.get("outputs")),
        _parameters(document, ""),
    )


def encode(facts: Object, tensors: Sequence[tuple[Tensor, bool]]) -> tuple[list[bytes], int | None]:
    """Write a response of `facts` and tensors, those marked True as bytes.

    Returns the pieces of the body, and how long its JSON is unless that is all of it. Raises
    InvalidInput if JSON cannot express a value.
    """
    outputs, pieces = [], []
    for tensor, binary in tensors:
        entry: Object = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.array.shape,
        }
        if binary:
            pieces.append(to_bytes(tensor.array))
            entry["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            entry["data"] = to_json(tensor.array)
        outputs.append(entry)
    header = orjson.dumps({**facts, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return [header, *pieces], len(header) if pieces else None


def _parse(text: memoryview) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None


def _object(value: object, pointer: str) -> Object:
    if not isinstance(value, dict):
        raise InvalidInput("must be an object", pointer)
    return value


def _parameters(document: Object, pointer: str) -> Object:
    return _object(document.get("parameters", {}), f"{pointer}/parameters")


def _inputs(entries: object, binary: memoryview) -> list[Tensor]:
    if not isinstance(entries, list) or not entries:
        raise InvalidInput("inputs must be a list of at least one tensor", "/inputs")
    tensors = list(_tensors(entries, binary))
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise InvalidInput("an input is given twice", "/inputs")
    return tensors


def _tensors(entries: Sequence[object], binary: memoryview) -> Iterator[Tensor]:
    place = 0
    for position, value in enumerate(entries):
        pointer = f"/inputs/{position}"
        entry = _object(value, pointer)
        size = _binary_size(entry, pointer)
        if size is not None and place + size > len(binary):
            raise InvalidInput(
                f"binary_data_size is {size}, but {len(binary) - place} bytes are left", pointer
            )
        yield _tensor(entry, None if size is None else binary[place : place + size], pointer)
        place += size or 0
    if place != len(binary):
        raise InvalidInput(f"{len(binary) - place} bytes belong to no input", "/inputs")


def _tensor(entry: Object, binary: memoryview | None, pointer: str) -> Tensor:
    name = _name(entry, pointer)
    datatype, shape = entry.get("datatype"), _shape(entry.get("shape"), f"{pointer}/shape")
    dtype_of(datatype, f"{pointer}/datatype")
    assert isinstance(datatype, str)
    if binary is None:
        array = from_json(entry.get("data"), datatype, shape, f"{pointer}/data")
    elif "data" in entry:
        raise InvalidInput("give either data or binary_data_size", pointer)
    else:
        array = from_bytes(binary, datatype, shape, pointer)
    return Tensor(name, datatype, array)


def _name(entry: Object, pointer: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str):
        raise InvalidInput("name must be a string", f"{pointer}/name")
    return name


def _shape(shape: object, pointer: str) -> list[int]:
    if not isinstance(shape, list) or not all(_whole(size) for size in shape):
        raise InvalidInput("shape must be a list of whole numbers, 0 or more", pointer)
    if len(shape) > 32 or math.prod(shape) >= 2**40:
        raise InvalidInput("shape is larger than any tensor", pointer)
    return shape


def _binary_size(entry: Object, pointer: str) -> int | None:
    parameters = _parameters(entry, pointer)
    if SHARED_MEMORY in parameters:
        raise InvalidInput("shared memory is not offered: send the data", f"{pointer}/parameters")
    size = parameters.get("binary_data_size")
    if size is not None and not _whole(size):
        raise InvalidInput(
            "must be a whole number, 0 or more", f"{pointer}/parameters/binary_data_size"
        )
    return size


def _outputs(entries: object) -> list[Wanted] | None:
    if entries is None or entries == []:
        return None
    if not isinstance(entries, list):
        raise InvalidInput("outputs must be a list", "/outputs")
    wanted = [_wanted(entry, f"/outputs/{place}") for place, entry in enumerate(entries)]
    names = [output.name for output in wanted]
    if len(set(names)) != len(names):
        raise InvalidInput("an output is asked for twice", "/outputs")
    return wanted


def _wanted(value: object, pointer: str) -> Wanted:
    entry = _object(value, pointer)
    parameters = _parameters(entry, pointer)
    if SHARED_MEMORY in parameters:
        raise InvalidInput("shared memory is not offered", f"{pointer}/parameters")
    classes = parameters.get("classification", 0)
    if not _whole(classes):
        raise InvalidInput(
            "must be a whole number of classes", f"{pointer}/parameters/classification"
        )
    return Wanted(_name(entry, pointer), parameters.get("binary_data"), classes)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
