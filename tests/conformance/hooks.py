"""What schemathesis sends besides what it makes of the document: real media, fitting tensors.

Runs in the environment of schemathesis (SCHEMATHESIS_HOOKS).
"""

import base64
import io
import os

import schemathesis
from hypothesis import strategies as st
from PIL import Image

IMAGE, TEXT = os.environ["IMAGE_MODEL"], os.environ["TEXT_MODEL"]
SIDE, LENGTH = 32, 366  # of these models' tensors
FORMATS = ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]


def encode(kind: str, mode: str, width: int, height: int, seed: int) -> bytes:
    """Return noise as a picture."""
    noise = Image.effect_noise((width, height), 40 + seed % 60).convert(mode)
    stream = io.BytesIO()
    noise.save(stream, kind)
    return stream.getvalue()


PICTURES = st.builds(
    encode,
    st.sampled_from(FORMATS),
    st.sampled_from(["RGB", "L"]),
    st.integers(32, 300),
    st.integers(32, 300),
    st.integers(0, 99),
)
TEXTS = st.text(min_size=1, max_size=300)
BASE64 = PICTURES.map(lambda data: base64.b64encode(data).decode())
PIXELS = st.lists(st.integers(0, 255), min_size=3 * SIDE**2, max_size=3 * SIDE**2)
IDS = st.lists(st.integers(0, 70), min_size=LENGTH, max_size=LENGTH)

schemathesis.openapi.media_type("image/*", PICTURES)
schemathesis.openapi.media_type("application/octet-stream", PICTURES)
schemathesis.openapi.media_type("text/plain", TEXTS.map(str.encode))


def tensor(name, datatype, shape, values):
    """Return the strategy of a request with one tensor."""
    entry = {"name": name, "datatype": datatype, "shape": shape}
    return values.map(lambda data: {"id": "1", "inputs": [{**entry, "data": data}]})


TENSORS = st.one_of(
    tensor("image", "UINT8", [1, SIDE, SIDE, 3], PIXELS),
    tensor("image", "BYTES", [1, 1], BASE64.map(lambda text: [text])),
    tensor("ids", "INT64", [1, LENGTH], IDS),
    tensor("ids", "BYTES", [1, 1], TEXTS.map(lambda text: [text])),
)


@schemathesis.hook
def before_generate_body(context, strategy):
    """Add tensors that fit a model to whatever else a tensor route is sent."""
    if context.operation.path.endswith("/infer"):
        return strategy | TENSORS
    return strategy


@schemathesis.hook
def before_generate_path_parameters(context, strategy):
    """Ask for models that are there, most of the time."""

    def named(parameters, name):
        if "{name}" in context.operation.path and name:
            return {**parameters, "name": name}
        return parameters

    names = st.sampled_from([IMAGE, TEXT, None])
    versions = st.sampled_from([True, False])

    def versioned(parameters, known):
        if known and "version" in parameters:
            return {**parameters, "version": "1"}
        return parameters

    return st.builds(versioned, st.builds(named, strategy, names), versions)
