"""What schemathesis sends besides what it makes of the document: real media, fitting tensors.

Runs in the environment of schemathesis (SCHEMATHESIS_HOOKS); the models are those of
tests/artifacts.py, whose store is in STORE.
"""

import base64
import io
import json
import os
import wave
from pathlib import Path
from random import Random

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.transport.serialization import Binary

MODELS = {
    "text": "tiny_text",
    "ids": "tiny_text",
    "image": "tiny_image",
    "audio": "tiny_audio",
    "cepstra": "tiny_cepstra",
}
"""What a request holds → the model that takes it."""

UNDERSTOOD = Path(os.environ["UNDERSTOOD"])
LONG = "long"  # versions of so many letters are asked for as they come
SPARE = "spare"  # is loaded and unloaded
LENGTH_HEADER = "Inference-Header-Content-Length"
UNKNOWN_HEADER = "x-schemathesis-unknown-property"
SIDE, LENGTH, SYMBOLS = 8, 16, 40  # of these models' tensors
PICTURE_FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]
CEPSTRA = next(Path(os.environ["STORE"]).glob("tiny_cepstra/1/samples/*")).read_bytes()


def picture(kind, mode, width, height, spread):
    """Return noise as a picture."""
    noise = Image.effect_noise((width, height), spread).convert(mode)
    stream = io.BytesIO()
    noise.save(stream, kind)
    return stream.getvalue()


def sound(rate, channels, frames):
    """Return noise as a WAV file of 16 bits."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(Random(frames).randbytes(2 * channels * frames))
    return stream.getvalue()


PICTURES = st.builds(
    picture,
    st.sampled_from(PICTURE_FORMATS),
    st.sampled_from(["RGB", "L"]),
    st.integers(8, 60),
    st.integers(8, 60),
    st.integers(40, 99),
)
SOUNDS = st.builds(
    sound, st.sampled_from([8000, 16_000, 44_100]), st.sampled_from([1, 2]), st.integers(400, 8000)
)
TEXTS = st.text(min_size=1, max_size=300)
BASE64 = PICTURES.map(lambda data: base64.b64encode(data).decode())

schemathesis.openapi.format("binary", PICTURES.map(Binary))
schemathesis.openapi.format("byte", BASE64)
schemathesis.openapi.format("audio", SOUNDS.map(lambda data: base64.b64encode(data).decode()))
schemathesis.openapi.format("cepstra", st.just(base64.b64encode(CEPSTRA).decode()))
schemathesis.openapi.format("audio-file", SOUNDS.map(Binary))
schemathesis.openapi.format("cepstra-file", st.just(Binary(CEPSTRA)))


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Say of every property that is a sound or a NumPy file which strings those are."""
    pending = [raw_schema]
    while pending:
        node = pending.pop()
        pending.extend(node.values() if isinstance(node, dict) else node)
        pending = [child for child in pending if isinstance(child, dict | list)]
        if isinstance(node, dict) and isinstance(node.get("properties"), dict):
            for key in node["properties"].keys() & {"audio", "cepstra"}:
                value = node["properties"][key]
                suffix = "-file" if value.get("format") == "binary" else ""
                node["properties"][key] = {**value, "format": key + suffix}
    for path in raw_schema["paths"].values():
        for operation in path.values():
            content = operation.get("requestBody", {}).get("content", {})
            if "audio/*" in content:
                content["audio/*"] = {"schema": {"type": "string", "format": "audio-file"}}


@schemathesis.serializer("image/png", "image/jpeg", "audio/wav")
def serialize(context, value):
    """Send media as they are, and what is none as text."""
    return value.data if isinstance(value, Binary) else str(value).encode()


def tensor(name, datatype, shape, values):
    """Return the strategy of a request with one tensor."""
    entry = {"name": name, "datatype": datatype, "shape": shape}
    return values.map(lambda data: {"id": "1", "inputs": [{**entry, "data": data}]})


def numbers(most, length):
    """Return the strategy of so many numbers up to `most`."""
    return st.lists(st.integers(0, most), min_size=length, max_size=length)


TENSORS = st.one_of(
    tensor("image", "UINT8", [1, SIDE, SIDE, 3], numbers(255, 3 * SIDE**2)),
    tensor("image", "BYTES", [1, 1], BASE64.map(lambda text: [text])),
    tensor("ids", "INT64", [1, LENGTH], numbers(SYMBOLS, LENGTH)),
    tensor("ids", "BYTES", [1, 1], TEXTS.map(lambda text: [text])),
)


@schemathesis.hook
def before_generate_body(context, strategy):
    """Add tensors that fit a model to whatever else a tensor route is sent."""
    if context.operation.path.endswith("/infer"):
        return strategy | TENSORS
    return strategy


@schemathesis.hook
def filter_case(context, case):
    """Leave out a header that nobody knows: it is to be ignored (RFC 9110, 5.1), not refused."""
    return UNKNOWN_HEADER not in (case.headers or {})


@schemathesis.hook
def before_call(context, case, kwargs):
    """Send what is well-formed to the model that fits, and never take away one that others need."""
    if "name" not in (case.path_parameters or {}):
        return
    positive = case.meta and case.meta.generation.mode is GenerationMode.POSITIVE
    path = case.operation.path
    if path.startswith("/v2/repository"):
        if positive or case.path_parameters["name"] in MODELS.values():
            case.path_parameters["name"] = SPARE
    elif positive:
        send_fitting(case)


def send_fitting(case):
    """Let a case be about the model that takes what it sends."""
    if "sample" in case.path_parameters:
        case.path_parameters |= {"version": "1", "sample": "native.png"}
    if len(case.path_parameters.get("version", LONG)) < len(LONG):
        case.path_parameters["version"] = "1"  # is there; longer ones are not
    case.path_parameters["name"] = fitting(case)
    if case.media_type == "multipart/form-data" and isinstance(case.body, dict):
        keep_one_kind(case.body)
    if case.operation.path.endswith("/infer"):
        case.headers.pop(LENGTH_HEADER, None)
        if case.media_type == "application/octet-stream":
            case.body, case.headers[LENGTH_HEADER] = binary(case.body)


@schemathesis.hook
def after_call(context, case, response):
    """Note what was understood: the model, the last word of the path, the media type."""
    if response.status_code == 200 and case.media_type:
        word = case.operation.path.rpartition("/")[2]
        with UNDERSTOOD.open("a") as file:
            print(case.path_parameters["name"], word, case.media_type, file=file)


def keep_one_kind(form):
    """Take the pictures beside a sound out of a form: no model takes both."""
    if {"audio", "cepstra"} & form.keys():
        for key in ("file", "files", "data"):  # of any kind for the service, pictures here
            form.pop(key, None)


def binary(body):
    """Return a body in the protocol's binary form, and the length of its JSON."""
    if isinstance(body, dict):
        header, pixels = json.dumps(body).encode(), b""
    else:
        data, size = body.data if isinstance(body, Binary) else body, 3 * SIDE**2
        entry = {"name": "image", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 3]}
        entry["parameters"] = {"binary_data_size": size}
        header = json.dumps({"inputs": [entry]}).encode() if len(data) % 2 else b""
        pixels = (data + bytes(size))[:size]
    return Binary(header + pixels), str(len(header))


def fitting(case):
    """Return the name of the model that takes what is sent."""
    key = held(case)
    if case.operation.path.endswith("/explain") and key in ("audio", "cepstra"):
        key = "text"  # of sounds nothing is explained
    return MODELS[key]


def held(case):
    """Tell which of MODELS' keys a request is about."""
    family = (case.media_type or "").partition("/")[0]
    if family in MODELS:
        return family
    if isinstance(case.body, Binary) or "sample" in case.path_parameters:
        return "image"
    return next(words(case.body), "text")


def words(body):
    """Yield MODELS' keys from a body in their order in it."""
    if isinstance(body, str):
        yield "text"
    if not isinstance(body, dict):
        return
    yield from (key for key in body if key in MODELS)
    for item in sorted(body.get("instances", []), key=lambda item: not isinstance(item, str)):
        yield from words(item)
    for entry in body.get("inputs", []):
        yield from (name for name in [entry.get("name")] if name in MODELS)
    if any(key in body for key in ("file", "files", "data")):
        yield "image"
