"""The protocol's codec: what is written is read back, and nothing is cast silently."""

from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from convserve.api.open_inference.codec import InferRequest, Tensor, decode, encode
from convserve.api.open_inference.datatypes import BYTES, DTYPES, from_bytes, from_json, to_bytes
from convserve.errors import InvalidInput, MalformedRequest

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3)


@st.composite
def tensors(draw: st.DrawFn, name: str = "x", text: bool = False) -> Tensor:
    datatype = draw(st.sampled_from(list(DTYPES)))
    shape = draw(SHAPES)
    if datatype == BYTES:
        element = st.text(max_size=5).map(str.encode) if text else st.binary(max_size=5)
        array = draw(arrays.arrays(object, shape, elements=element))
    else:
        dtype = DTYPES[datatype]
        limits = {"allow_nan": False, "allow_infinity": False}
        finite = arrays.from_dtype(dtype, **limits) if dtype.kind == "f" else None  # type: ignore[arg-type]
        array = draw(arrays.arrays(dtype, shape, elements=finite))
    return Tensor(name, datatype, array)


def same(one: Tensor, other: Tensor) -> bool:
    return (
        (one.name, one.datatype) == (other.name, other.datatype)
        and one.array.shape == other.array.shape
        and one.array.dtype == other.array.dtype
        and bool(np.all(one.array == other.array))
    )


def question(response: list[bytes], length: int | None) -> InferRequest:
    """Read a response as if it were a request: its outputs as inputs."""
    body = b"".join(response)
    header = body if length is None else body[:length]
    document = orjson.loads(header)
    asked = orjson.dumps({"inputs": document["outputs"]})
    return decode(asked + body[len(header) :], None if length is None else len(asked))


@given(tensors(), tensors(name="y"), st.booleans())
def test_binary_tensors_come_back_as_they_were(one: Tensor, other: Tensor, both: bool) -> None:
    given = [(one, True), *([(other, True)] if both else [])]
    found = question(*encode({}, given)).inputs
    assert all(same(a, b) for (a, _), b in zip(given, found, strict=True))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(tensors(text=True), tensors(name="y"))
def test_json_tensors_come_back_as_they_were_also_beside_binary_ones(
    plain: Tensor, binary: Tensor
) -> None:
    found = question(*encode({"id": "1"}, [(plain, False), (binary, True)])).inputs
    assert same(plain, found[0])
    assert same(binary, found[1])


@given(tensors(text=True))
def test_nested_data_mean_the_same_as_flat(tensor: Tensor) -> None:
    values: Any = tensor.array
    if tensor.datatype == BYTES:
        values = np.vectorize(bytes.decode, otypes=[object])(values) if values.size else values
    nested, flat = values.tolist(), values.reshape(-1).tolist()
    shape = list(tensor.array.shape)
    for data in (nested, flat):
        found = from_json(orjson.loads(orjson.dumps(data)), tensor.datatype, shape, "")
        assert np.array_equal(found, tensor.array)


@given(tensors(), st.binary(max_size=9))
def test_bytes_that_are_too_few_or_too_many_are_refused(tensor: Tensor, more: bytes) -> None:
    data, shape = to_bytes(tensor.array), tensor.array.shape
    if more and tensor.array.size:
        if tensor.datatype != BYTES:
            with pytest.raises(InvalidInput):
                from_bytes(memoryview(data + more), tensor.datatype, shape, "")
        with pytest.raises(InvalidInput):
            from_bytes(memoryview(data)[:-1], tensor.datatype, shape, "")


NUMBERS = st.integers(-(2**66), 2**66) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.sampled_from([name for name in DTYPES if name != BYTES]), NUMBERS | st.booleans())
def test_a_number_is_taken_exactly_or_not_at_all(datatype: str, value: float) -> None:
    sent = orjson.loads(str(value).lower())
    try:
        (found,) = from_json([sent], datatype, [1], "").tolist()
    except InvalidInput:
        kind = DTYPES[datatype].kind
        if kind in "iu":
            limits = np.iinfo(DTYPES[datatype])
            assert isinstance(sent, bool | float) or not limits.min <= sent <= limits.max
        elif kind == "f":
            assert isinstance(sent, bool) or abs(sent) > float(np.finfo(DTYPES[datatype]).max)
        else:
            assert not isinstance(sent, bool)
    else:
        with np.errstate(over="ignore"):
            assert found == DTYPES[datatype].type(sent)
        assert np.isfinite(found)
        if DTYPES[datatype].kind in "iu":
            assert found == sent


WORDS = st.sampled_from(
    ["id", "inputs", "outputs", "parameters", "name", "shape", "datatype", "data",
     "binary_data_size", "classification", "binary_data"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
        "datatype": st.sampled_from([*DTYPES, "BF16"]) | JSON,
        "data": JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 9)}) | JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(ENTRY | JSON, max_size=3) | JSON},
    optional={"outputs": JSON, "parameters": JSON, "id": JSON},
)


@given(REQUEST | JSON, st.binary(max_size=12), st.none() | st.integers(0, 20))
def test_whatever_comes_in_is_read_or_refused_with_a_reason(
    document: object, rest: bytes, length: int | None
) -> None:
    header = orjson.dumps(document)
    for size in (len(header), length):
        with suppress(InvalidInput, MalformedRequest):
            assert decode(header + rest, size).inputs


def array(values: Any, dtype: str) -> NDArray[Any]:
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"datatype": "BF16", "shape": [1], "data": [1]}, "BF16 is not taken: send FP32"),
        ({"datatype": "FP8", "shape": [1], "data": [1]}, "datatype must be one of BOOL, INT8"),
        ({"datatype": "INT8", "shape": [1], "data": [200]}, "200 is out of the range of INT8"),
        ({"datatype": "FP16", "shape": [1], "data": [1e5]}, "out of the range of FP16"),
        ({"datatype": "INT8", "shape": [1], "data": [1.5]}, "holds a value that is no INT8"),
        ({"datatype": "FP32", "shape": [1], "data": ["1"]}, "holds a value that is no FP32"),
        ({"datatype": "FP32", "shape": [2], "data": [[1], [2, 3]]}, "or nested evenly"),
        ({"datatype": "FP32", "shape": [3], "data": [1, 2]}, r"2 values do not make up \[3\]"),
        ({"datatype": "FP32", "shape": [-1], "data": [1]}, "shape must be a list of whole"),
        (
            {"datatype": "FP32", "shape": [1], "parameters": {"shared_memory_region": "r"}},
            "shared memory is not offered",
        ),
    ],
)
def test_what_is_wrong_is_told(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        decode(orjson.dumps({"inputs": [{"name": "x", **entry}]}), None)
    assert caught.value.pointer.startswith("/inputs/0")


def test_what_json_does_not_know_must_be_asked_for_as_bytes() -> None:
    for values in (array([np.nan], "f4"), array([b"\xff"], "O")):
        tensor = Tensor("x", "any", values)
        with pytest.raises(InvalidInput, match="ask for binary data"):
            encode({}, [(tensor, False)])
        assert encode({}, [(tensor, True)])
