"""NVIDIA's client against a server at argv[1]: every datatype, endpoint and encoding it knows.

Runs in an environment of its own. argv[2] is the management key, argv[3] a picture and argv[4] its
pixels; the scores of both are printed.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as blocking
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

URL, KEY, PICTURE, PIXELS = sys.argv[1:]
MANAGEMENT = {"Authorization": f"Bearer {KEY}"}
ECHO, IMAGE, TEXT = "echo", "tiny_image", "tiny_text"
DTYPES = [
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.float16, np.float32, np.float64,
]  # fmt: skip


def values(dtype):
    """Return two rows with the extremes of a type, and its word in the protocol."""
    if dtype is np.object_:
        return np.array([[b"", "ü".encode()], [b"x" * 3000, b"\n"]], object)
    if dtype is np.bool_:
        return np.array([[True, False], [False, False]])
    limits = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    return np.array([[limits.min, 1], [limits.max, 0]], dtype)


def question(module, binary):
    """Return an input and an expected output of every datatype."""
    inputs, expected = [], {}
    for dtype in [*DTYPES, np.object_]:
        array = values(dtype)
        word = np_to_triton_dtype(array.dtype)
        tensor = module.InferInput(f"in_{word.lower()}", list(array.shape), word)
        inputs.append(tensor.set_data_from_numpy(array, binary_data=binary))
        expected[f"out_{word.lower()}"] = array
    return inputs, expected


def check(result, expected):
    """Assert that the outputs are the inputs, bit for bit."""
    for name, array in expected.items():
        found = result.as_numpy(name)
        if found.dtype == object:
            found = np.array([v if isinstance(v, bytes) else str(v).encode() for v in found.flat],
                             object).reshape(found.shape)  # fmt: skip
        assert found.shape == array.shape, name
        assert (found == array).all(), (name, found, array)


def ways():
    """Every combination of JSON or binary, in and out, and of compression."""
    for binary_in in (False, True):
        for binary_out in (False, True):
            for packed in (None, "gzip", "deflate"):
                yield binary_in, binary_out, packed


def test_infer(client):
    """Send every datatype in every way."""
    for binary_in, binary_out, packed in ways():
        inputs, expected = question(blocking, binary_in)
        outputs = [blocking.InferRequestedOutput(n, binary_data=binary_out) for n in expected]
        result = client.infer(
            ECHO,
            inputs,
            model_version="1",
            outputs=outputs,
            request_id="42",
            priority=1,
            timeout=30_000_000,
            request_compression_algorithm=packed,
            response_compression_algorithm=packed,
        )
        check(result, expected)
        assert result.get_response()["id"] == "42"
    inputs, expected = question(blocking, True)
    check(client.infer(ECHO, inputs), expected)
    pending = [client.async_infer(ECHO, inputs) for _ in range(8)]
    for request in pending:
        check(request.get_result(), expected)


def test_pictures(client):
    """Send a picture as BYTES and as pixels, and ask for its classes."""
    encoded, pixels = np.array([[Path(PICTURE).read_bytes()]], object), np.load(PIXELS)
    bytes_ = blocking.InferInput("image", [1, 1], "BYTES").set_data_from_numpy(encoded)
    uint8 = blocking.InferInput("image", list(pixels.shape), "UINT8").set_data_from_numpy(pixels)
    scores, same = (
        client.infer(IMAGE, [tensor]).as_numpy("probabilities")[0] for tensor in (bytes_, uint8)
    )
    assert (scores == same).all()
    wanted = blocking.InferRequestedOutput("probabilities", class_count=2)
    classes = client.infer(IMAGE, [bytes_], outputs=[wanted]).as_numpy("probabilities")[0]
    value, place, label = classes[0].decode().split(":")
    assert int(place) == scores.argmax()
    assert abs(float(value) - scores.max()) < 1e-5
    assert label
    print("scores", json.dumps(scores.tolist()))


def test_endpoints(client):
    """Call everything that tells about the server and its models."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(ECHO)
    assert client.is_model_ready(ECHO, "1")
    assert not client.is_model_ready("nothing")
    assert "statistics" in client.get_server_metadata()["extensions"]
    for version in ("", "1"):
        assert client.get_model_metadata(IMAGE, version)["inputs"][0]["shape"] == [-1, 8, 8, 3]
        assert client.get_model_config(IMAGE, version)["input"][0]["dims"] == [8, 8, 3]
        (stats,) = client.get_inference_statistics(ECHO, version)["model_stats"]
        assert stats["inference_stats"]["success"]["count"] > 0
    assert len(client.get_inference_statistics()["model_stats"]) > 1
    assert {"echo", "tiny_image"} <= {e["name"] for e in client.get_model_repository_index()}
    client.unload_model(TEXT, headers=MANAGEMENT)
    assert not client.is_model_ready(TEXT)
    client.load_model(TEXT, headers=MANAGEMENT)
    assert client.is_model_ready(TEXT)


def test_refusals(client):
    """See that what is refused comes as this client's own exception, with our words."""
    wrong = blocking.InferInput("in_fp32", [1, 1], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 1), np.float32))
    for call, words in (
        (lambda: client.infer("nothing", [wrong]), "no model"),
        (lambda: client.infer(IMAGE, [wrong]), "no input"),
        (lambda: client.infer(ECHO, [wrong]), "is missing"),
        (lambda: client.unload_model(TEXT), "key"),
        (lambda: client.infer(ECHO, [wrong], sequence_id=1), "sequence"),
    ):
        assert words in refusal(call), words


def refusal(call):
    """Return the message of the exception that a call raises; none is an error."""
    try:
        call()
    except InferenceServerException as error:
        return error.message()
    raise AssertionError("accepted what should be refused")


async def test_aio():
    """Do the same with the client for asyncio."""
    async with aio.InferenceServerClient(URL) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata(IMAGE))["name"] == IMAGE
        for binary_in, binary_out, packed in ways():
            inputs, expected = question(aio, binary_in)
            outputs = [aio.InferRequestedOutput(n, binary_data=binary_out) for n in expected]
            result = await client.infer(
                ECHO,
                inputs,
                outputs=outputs,
                request_compression_algorithm=packed,
                response_compression_algorithm=packed,
            )
            check(result, expected)


with blocking.InferenceServerClient(URL, concurrency=4) as client:
    for test in (test_infer, test_pictures, test_endpoints, test_refusals):
        test(client)
        print(test.__name__, "passed", flush=True)
asyncio.run(test_aio())
print("test_aio passed")
