"""The protocol's datatypes: JSON values and raw bytes ↔ arrays. Nothing is cast silently."""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convserve.errors import InvalidInput

Array = NDArray[Any]
BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower())
       for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    BYTES: np.dtype(object),
}  # fmt: skip
"""Datatype → how it is kept; the elements of BYTES are `bytes`."""

LENGTH = struct.Struct("<I")  # in front of each element of BYTES


def dtype_of(datatype: object, pointer: str) -> np.dtype[Any]:
    """Return how a datatype is kept; raises InvalidInput if it is none that can be sent."""
    if datatype == "BF16":
        raise InvalidInput("BF16 is not taken: send FP32, of which it is the upper half", pointer)
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise InvalidInput(f"the datatype must be one of {', '.join(DTYPES)}", pointer)
    return DTYPES[datatype]


def from_json(data: object, datatype: str, shape: Sequence[int], pointer: str) -> Array:
    """Return JSON `data`, nested or flat in row-major order, as an array of `shape`.

    Raises InvalidInput if a value is not one of `datatype`, or if there are not as many.
    """
    if not isinstance(data, list):
        raise InvalidInput("data must be a list", pointer)
    array = _text(data, pointer) if datatype == BYTES else _numbers(data, datatype, pointer)
    if array.size != math.prod(shape):
        raise InvalidInput(f"{array.size} values do not make up {list(shape)}", pointer)
    return array.reshape(shape)


def to_json(array: Array) -> object:
    """Return what JSON shows of an array: its values, flat; raises InvalidInput if it cannot."""
    if array.dtype == object:
        return [_utf8(element) for element in array.flat]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput(
            "an output holds values that JSON does not know (NaN or infinity): ask for binary data"
        )
    return np.ascontiguousarray(array).reshape(-1)


def from_bytes(data: memoryview, datatype: str, shape: Sequence[int], pointer: str) -> Array:
    """Return raw little-endian bytes, row-major, as an array of `shape`; see `from_json`."""
    if datatype == BYTES:
        elements = list(_elements(data, pointer))
        if len(elements) != math.prod(shape):
            raise InvalidInput(f"{len(elements)} elements do not make up {list(shape)}", pointer)
        return _objects(elements).reshape(shape)
    dtype = DTYPES[datatype]
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise InvalidInput(
            f"{len(data)} bytes do not make up {list(shape)} of {datatype}, "
            f"{dtype.itemsize} bytes each",
            pointer,
        )
    if datatype == "BOOL" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise InvalidInput("the bytes of BOOL must be 0 or 1", pointer)
    return np.frombuffer(data, dtype).reshape(shape)


def to_bytes(array: Array) -> bytes:
    """Return an array as the raw bytes that `from_bytes` reads."""
    if array.dtype == object:
        return b"".join(LENGTH.pack(len(element)) + element for element in array.flat)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _numbers(data: list[Any], datatype: str, pointer: str) -> Array:
    dtype = DTYPES[datatype]
    found = _array(data, dtype, pointer)
    if not found.size:
        return np.empty(0, dtype)
    if found.dtype.kind not in {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]:
        raise InvalidInput(f"data holds a value that is no {datatype}", pointer)
    with np.errstate(over="ignore"):
        array = found.astype(dtype)
    fits = np.isfinite(array) if dtype.kind == "f" else array == found
    if not fits.all():
        raise InvalidInput(f"{found[~fits][0]} is out of the range of {datatype}", pointer)
    return array


def _array(data: list[Any], dtype: np.dtype[Any], pointer: str) -> Array:
    try:
        found = np.asarray(data)
        # Integers on both sides of 2⁶³ have become floats.
        if dtype == np.uint64 and found.dtype.kind == "f":
            exact = np.asarray(data, object)
            return exact.astype(dtype) if all(type(v) is int for v in exact.flat) else found
        return found
    except (ValueError, OverflowError):
        raise InvalidInput("data must be a flat list, or nested evenly", pointer) from None


def _text(data: list[Any], pointer: str) -> Array:
    elements = list(_leaves(data))
    if not all(isinstance(element, str) for element in elements):
        raise InvalidInput("data of BYTES must be strings", pointer)
    return _objects([element.encode() for element in elements])


def _leaves(data: list[Any]) -> Iterator[Any]:
    pending = [iter(data)]
    while pending:
        for element in pending[-1]:
            if isinstance(element, list):
                pending.append(iter(element))
                break
            yield element
        else:
            pending.pop()


def _elements(data: memoryview, pointer: str) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        begin = place + LENGTH.size
        if begin > len(data):
            raise InvalidInput("an element's length has four bytes", pointer)
        place = begin + LENGTH.unpack_from(data, place)[0]
        if place > len(data):
            raise InvalidInput("an element is longer than the data", pointer)
        yield bytes(data[begin:place])


def _objects(elements: Sequence[bytes]) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array


def _utf8(element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidInput("an output is not UTF-8 text: ask for binary data") from None
