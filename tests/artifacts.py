"""Tiny artifacts, built on the fly: real graphs, goldens computed without the service.

The expected probabilities come from numpy and from the training side's own reading of the
preprocessing words, so that they prove the service instead of repeating it.
"""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import soundfile
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from convserve_models import manifest as training_side
from convserve_models import reference

IMAGE, TEXT, AUDIO, CEPSTRA = "tiny_image", "tiny_text", "tiny_audio", "tiny_cepstra"
IMAGE_LABELS = ["cat", "dog", "ship", "truck"]
TEXT_LABELS = ["world", "sports", "business"]
LETTERS = [" ", "a", "b", "c"]
RATE, FRAME, COEFFICIENTS = 8000, 80, 3
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
LENGTH = 16
SIDE = 8
BRIGHT = 200.5  # mean value of a pixel's channels
COARSE = 1 / 64
RESIZED = 0.01  # of a probability: what rounding while a picture is resized changes of it at most
SLOW, ROUNDS = "z", 100  # each z in a text costs the text network 3.4 GFLOP more
Manifest = dict[str, Any]
Floats = NDArray[np.float32]

IMAGE_STEPS: list[Manifest] = [
    {"op": "decode"},
    {"op": "resize", "shorter": SIDE, "filter": "bilinear"},
    {"op": "center_crop", "size": [SIDE, SIDE]},
]
TEXT_STEPS: list[Manifest] = [
    {"op": "lowercase"},
    {"op": "characters", "alphabet": ALPHABET, "length": LENGTH, "reverse": True},
]


AUDIO_STEPS: list[Manifest] = [
    {"op": "pcm"},
    {"op": "resample", "rate": RATE},
    {"op": "pad", "lengths": [800, 1600, 8000, 240_000]},
]
CEPSTRA_STEPS: list[Manifest] = [
    {"op": "frames", "coefficients": COEFFICIENTS},
    {"op": "pad", "lengths": [10, 20, 200]},
]


def build_store(store: Path) -> Path:
    """Write a store with one image and one text artifact, both default."""
    build_image(store)
    build_text(store)
    (store / "store.json").write_text(json.dumps({"default": [IMAGE, TEXT]}))
    return store


def build_image(store: Path, version: str = "1") -> Path:
    """uint8 [N,8,8,3] → probabilities of four labels; bright pictures are out of distribution."""
    path = _directory(store, IMAGE, version)
    (path / "model.onnx").write_bytes(image_graph())
    goldens = [
        _golden(path, f"samples/{name}", media, data, IMAGE_LABELS, image_probabilities(data))
        for name, media, data in (
            ("native.png", "image/png", picture(SIDE, SIDE)),
            ("photo.jpg", "image/jpeg", picture(300, 200, "JPEG", orientation=6)),
            ("alpha.png", "image/png", picture(20, 31, mode="RGBA")),
        )
    ]
    inputs = [{"name": "image", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]}]
    _write(path, inputs, "image", IMAGE_STEPS, IMAGE_LABELS, goldens)
    edit(path, _tell_bright_from_usual)
    return path


def _tell_bright_from_usual(manifest: Manifest) -> None:
    manifest["outputs"].append({"name": "brightness", "datatype": "FP32", "shape": [-1]})
    limit = {"output": "brightness", "coverage": 0.9, "threshold": BRIGHT}
    manifest["postprocess"]["out_of_distribution"] = limit


def explain_image(path: Path, graph: bytes | None = None) -> None:
    """Give the image artifact a graph that explains."""
    (path / "explain.onnx").write_bytes(graph or image_explaining_graph())

    def add(manifest: Manifest) -> None:
        manifest["graphs"]["explain"] = {"file": "explain.onnx"}

    edit(path, add)


def show_image(path: Path, graph: bytes | None = None) -> None:
    """Give the image artifact a graph of its feature maps."""
    (path / "features.onnx").write_bytes(graph or image_maps_graph())

    def add(manifest: Manifest) -> None:
        manifest["graphs"]["features"] = {"file": "features.onnx"}

    edit(path, add)


def build_text(store: Path, version: str = "1", graph: bytes | None = None) -> Path:
    """ids [N,16] → probabilities of three labels."""
    path = _directory(store, TEXT, version)
    (path / "model.onnx").write_bytes(graph or text_graph())
    goldens = [
        _golden(path, f"samples/{place}.txt", "text/plain", text.encode(), TEXT_LABELS, expected)
        for place, text in enumerate(("Goal!", "Stocks fall, and fall, and fall", "ÄÖ? 42"))
        for expected in [text_probabilities(text)]
    ]
    inputs = [{"name": "ids", "datatype": "INT64", "shape": [-1, LENGTH]}]
    return _write(path, inputs, "text", TEXT_STEPS, TEXT_LABELS, goldens)


def quantize_text(
    path: Path,
    graph: bytes | None = None,
    tolerance: float = 0.05,
    accuracies: tuple[float, float] | None = (0.9, 0.898),
) -> None:
    """Give the text artifact a graph of coarse weights as its int8, and both their accuracies."""
    (path / "int8.onnx").write_bytes(graph or text_graph(rounds=0, coarse=COARSE))

    def add(manifest: Manifest) -> None:
        manifest["graphs"]["int8"] = {"file": "int8.onnx", "tolerance": tolerance}
        if accuracies:
            one, other = (
                {"name": "accuracy", "value": value, "n": 500, "split": "test"}
                for value in accuracies
            )
            manifest["metrics"], manifest["graphs"]["int8"]["metrics"] = [one], [other]

    edit(path, add)


def build_audio(store: Path, version: str = "1") -> Path:
    """Sound [N,T] with NaN behind the end → log probabilities [N,T/80,5] of four letters."""
    path = _directory(store, AUDIO, version)
    (path / "model.onnx").write_bytes(_letters_graph(FRAME, flat=True))
    sounds = {
        "short.wav": ("audio/wav", wav(0.09)),
        "stereo.flac": ("audio/flac", wav(0.4, rate=44_100, channels=2, kind="FLAC")),
        "voice.ogg": ("audio/ogg", wav(0.7, rate=16_000, kind="OGG")),
    }
    goldens = []
    for name, (media, data) in sounds.items():
        expected = letter_probabilities(reference.audio(data, AUDIO_STEPS), FRAME)
        goldens.append(_spoken_golden(path, name, media, data, expected))
    inputs = [{"name": "sound", "datatype": "FP32", "shape": [-1, -1]}]
    return _write_speech(path, inputs, "audio", AUDIO_STEPS, goldens)


def build_cepstra(store: Path, version: str = "1") -> Path:
    """Cepstra [N,L,3] with NaN behind the end → log probabilities [N,L,5] of four letters."""
    path = _directory(store, CEPSTRA, version)
    (path / "model.onnx").write_bytes(_letters_graph(COEFFICIENTS, flat=False))
    data = npy(np.random.default_rng(0).standard_normal((7, COEFFICIENTS)))
    expected = letter_probabilities(reference.cepstra(data, CEPSTRA_STEPS), COEFFICIENTS)
    goldens = [_spoken_golden(path, "said.npy", "application/octet-stream", data, expected)]
    inputs = [{"name": "cepstra", "datatype": "FP32", "shape": [-1, -1, COEFFICIENTS]}]
    return _write_speech(path, inputs, "cepstra", CEPSTRA_STEPS, goldens)


def edit(path: Path, change: Callable[[Manifest], object]) -> None:
    """Change the manifest of an artifact, then bring all digests up to date."""
    manifest: Manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    for entry in (*manifest["graphs"].values(), *manifest["goldens"]):
        file = path / entry.get("file", entry.get("input"))
        entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    training_side.sign(path)


def picture(
    width: int, height: int, kind: str = "PNG", mode: str = "RGB", orientation: int = 1
) -> bytes:
    """Encode noise, the same for the same arguments: every pixel and channel matters."""
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert(mode).save(stream, kind, exif=exif)
    return stream.getvalue()


def assert_rounded_alike(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """Two implementations of a resizing kernel may round differently: twice, once for each side."""
    np.testing.assert_allclose(found.astype(int), expected.astype(int), rtol=0, atol=2)


def wav(
    seconds: float,
    rate: int = RATE,
    channels: int = 1,
    kind: str = "WAV",
    subtype: str | None = None,
    seed: int = 0,
) -> bytes:
    """Encode noise, the same for the same arguments."""
    noise = np.random.default_rng(seed).uniform(-0.9, 0.9, (round(seconds * rate), channels))
    stream = io.BytesIO()
    soundfile.write(stream, noise, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    """Encode an array as a NumPy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def letter_probabilities(padded: Floats, size: int) -> Floats:
    """What the speech networks answer: [positions, 1 + letters], by numpy."""
    frames = padded.reshape(-1, size)
    given = ~np.isnan(frames).any(axis=1, keepdims=True)
    logits = np.where(given, np.nan_to_num(frames) @ _letter_weights(size), _SILENCE)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def image_probabilities(encoded: bytes) -> Floats:
    """What the image network answers, by the training side's preprocessing and numpy."""
    pixels = reference.image(encoded, IMAGE_STEPS).astype(np.float32)
    return _softmax(pixels.reshape(-1) @ _image_weights())


def text_probabilities(text: str) -> Floats:
    """What the text network answers, by the training side's preprocessing and numpy."""
    embedding, weights = _text_weights()
    return _softmax(embedding[reference.text(text, TEXT_STEPS)].reshape(-1) @ weights)


def image_graph(order: tuple[int, int, int] = (0, 1, 2)) -> bytes:
    """The image network, reading its channels in this order."""
    nodes = [
        helper.make_node("Gather", ["image", "order"], ["ordered"], axis=3),
        helper.make_node("Cast", ["ordered"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("ReduceMean", ["flat"], ["brightness"], axes=[1], keepdims=0),
    ]
    constants: dict[str, NDArray[Any]] = {
        "order": np.array(order, np.int64),
        "shape": np.array([-1, SIDE * SIDE * 3], np.int64),
        "weights": _image_weights(),
    }
    given = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    brightness = helper.make_tensor_value_info("brightness", TensorProto.FLOAT, ["n"])
    return _model(nodes, constants, given, len(IMAGE_LABELS), brightness)


def image_explaining_graph() -> bytes:
    """The network is linear in its pixels: the gradient of a logit is a column of its weights."""
    nodes = [
        helper.make_node("Gather", ["columns", "target"], ["gradient"]),
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["cam"], axes=[3], keepdims=0),
    ]
    columns = image_gradients()
    given = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    target = helper.make_tensor_value_info("target", TensorProto.INT64, ["n"])
    outputs = [
        helper.make_tensor_value_info("cam", TensorProto.FLOAT, ["n", SIDE, SIDE]),
        helper.make_tensor_value_info("gradient", TensorProto.FLOAT, ["n", SIDE, SIDE, 3]),
    ]
    weights = [numpy_helper.from_array(columns, "columns")]
    graph = helper.make_graph(nodes, "explaining", [given, target], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def image_maps_graph() -> bytes:
    """Two layers: the colours as three maps, and their mean as one of half the size."""
    halves, factor = np.array([-1, 1, SIDE // 2, 2, SIDE // 2, 2], np.int64), [3, 5]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["maps_1"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["maps_1"], ["grey"], axes=[1]),
        helper.make_node("Reshape", ["grey", "halves"], ["blocks"]),
        helper.make_node("ReduceMean", ["blocks"], ["maps_2"], axes=factor, keepdims=0),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    outputs = [
        helper.make_tensor_value_info("maps_1", TensorProto.FLOAT, ["n", 3, SIDE, SIDE]),
        helper.make_tensor_value_info("maps_2", TensorProto.FLOAT, ["n", 1, SIDE // 2, SIDE // 2]),
    ]
    constants = [numpy_helper.from_array(halves, "halves")]
    graph = helper.make_graph(nodes, "seeing", [given], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def image_gradients() -> Floats:
    """[labels, SIDE, SIDE, 3]: of each logit by the pixels."""
    return np.ascontiguousarray(_image_weights().T.reshape(-1, SIDE, SIDE, 3))


def text_graph(rounds: int = ROUNDS, side: int = 1, slow: str = SLOW, coarse: float = 0.0) -> bytes:
    """The text network; each `slow` in a text costs so many rounds and a product of such a side.

    Neither changes the answer. 2⁶² rounds are endless; one product cannot be interrupted. `coarse`
    weights are multiples of it.
    """
    embedding, weights = _text_weights()
    if coarse:
        weights = (weights / coarse).round().astype(np.float32) * np.float32(coarse)
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["embedded"]),
        helper.make_node("Reshape", ["embedded", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["quick"]),
        *_delay(),
        *_product(),
        helper.make_node("Add", ["quick", "nothing"], ["slower"]),
        helper.make_node("Add", ["slower", "nothing_more"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    constants: dict[str, NDArray[Any]] = {
        "embedding": embedding,
        "shape": np.array([-1, LENGTH * embedding.shape[1]], np.int64),
        "weights": weights,
        "slow_id": np.array(ALPHABET.index(slow) + 1, np.int64),
        "rounds_each": np.array(rounds, np.int64),
        "side_each": np.array(side, np.int64),
        "two": np.array([2], np.int64),
        "yes": np.array(True),
        "zero": np.zeros((), np.float32),
        "identity": np.eye(256, dtype=np.float32),
    }
    given = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", LENGTH])
    return _model(nodes, constants, given, len(TEXT_LABELS))


def _delay() -> list[onnx.NodeProto]:
    """Work that changes nothing: `nothing` = 0 after ROUNDS matrix products for each slow id."""
    square = [256, 256]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "identity"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, square),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, square),
        ],
    )
    return [
        helper.make_node("Equal", ["ids", "slow_id"], ["slow"]),
        helper.make_node("Cast", ["slow"], ["slow_ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["slow_ones"], ["slow_count"], keepdims=0),
        helper.make_node("Mul", ["slow_count", "rounds_each"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "yes", "identity"], ["result"], body=body),
        helper.make_node("ReduceMax", ["result"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "zero"], ["nothing"]),
    ]


def _product() -> list[onnx.NodeProto]:
    """One product of square matrices, `side_each` long for each slow id: `nothing_more` = 0."""
    return [
        helper.make_node("Mul", ["slow_count", "side_each"], ["side"]),
        helper.make_node("Expand", ["side", "two"], ["sides"]),
        helper.make_node("ConstantOfShape", ["sides"], ["square"]),
        helper.make_node("MatMul", ["square", "square"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["nothing_more"], keepdims=0),
    ]


def _letters_graph(size: int, *, flat: bool) -> bytes:
    """Frames of `size` numbers → logits of letters; a frame with a NaN in it says nothing."""
    name = "sound" if flat else "cepstra"
    nodes = [
        helper.make_node("Reshape", [name, "shape"], ["frames"]),
        helper.make_node("IsNaN", ["frames"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "frames"], ["numbers"]),
        helper.make_node("MatMul", ["numbers", "weights"], ["heard"]),
        helper.make_node("Cast", ["missing"], ["gaps"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["gaps"], ["gap"], axes=[2], keepdims=1),
        helper.make_node("Cast", ["gap"], ["ended"], to=TensorProto.BOOL),
        helper.make_node("Where", ["ended", "silence", "heard"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probabilities"], axis=2),
    ]
    constants: dict[str, NDArray[Any]] = {
        "shape": np.array([0, -1, size], np.int64),
        "zero": np.zeros((), np.float32),
        "weights": _letter_weights(size),
        "silence": _SILENCE,
    }
    shape: list[str | int | None] = ["n", "t"] if flat else ["n", "t", size]
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info(
        "log_probabilities", TensorProto.FLOAT, ["n", "l", len(LETTERS) + 1]
    )
    return _whole(nodes, constants, given, result)


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    given: onnx.ValueInfoProto,
    labels: int,
    *scores: onnx.ValueInfoProto,
) -> bytes:
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", labels])
    return _whole(nodes, constants, given, result, *scores)


def _whole(
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[Any]],
    given: onnx.ValueInfoProto,
    *results: onnx.ValueInfoProto,
) -> bytes:
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [given], list(results), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _image_weights() -> Floats:
    shape = (SIDE * SIDE * 3, len(IMAGE_LABELS))
    return np.random.default_rng(1).normal(0, 0.002, shape).astype(np.float32)


def _text_weights() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(2)
    embedding = rng.normal(0, 1, (len(ALPHABET) + 1, 4)).astype(np.float32)
    return embedding, rng.normal(0, 0.2, (LENGTH * 4, len(TEXT_LABELS))).astype(np.float32)


_SILENCE = np.array([0, *[-1e4] * len(LETTERS)], np.float32)


def _letter_weights(size: int) -> Floats:
    shape = (size, len(LETTERS) + 1)
    return np.random.default_rng(3).normal(0, 0.6, shape).astype(np.float32)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), np.float32)


def _directory(store: Path, name: str, version: str) -> Path:
    path = store / name / version
    (path / "samples").mkdir(parents=True)
    return path


def _golden(
    path: Path, name: str, media: str, data: bytes, labels: list[str], expected: Floats
) -> Manifest:
    (path / name).write_bytes(data)
    return {
        "input": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "media_type": media,
        "expected": dict(zip(labels, expected.tolist(), strict=True)),
        "tolerance": 1e-3,
    }


def _write(
    path: Path,
    inputs: list[Manifest],
    modality: str,
    steps: list[Manifest],
    labels: list[str],
    goldens: list[Manifest],
) -> Path:
    graph = hashlib.sha256((path / "model.onnx").read_bytes()).hexdigest()
    conformal = {"coverage": 0.9, "threshold": 0.2}
    manifest = {
        "schema_version": 1,
        "id": path.parent.name,
        "version": path.name,
        "title": f"A tiny {modality} network",
        "task": "classification",
        "graphs": {"predict": {"file": "model.onnx", "sha256": graph}},
        "inputs": inputs,
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(labels)]}],
        "preprocess": {"modality": modality, "steps": steps},
        "postprocess": {"kind": "classification", "labels": labels, "conformal": conformal},
        "goldens": goldens,
    }
    training_side.write(manifest, path)
    return path


def _spoken_golden(path: Path, name: str, media: str, data: bytes, expected: Floats) -> Manifest:
    (path / "samples" / name).write_bytes(data)
    names = ["", *LETTERS]
    best = {
        f"{place} {names[row.argmax()]}": float(row.max()) for place, row in enumerate(expected)
    }
    return {
        "input": f"samples/{name}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "media_type": media,
        "expected": best,
        "tolerance": 1e-3,
    }


def _write_speech(
    path: Path,
    inputs: list[Manifest],
    modality: str,
    steps: list[Manifest],
    goldens: list[Manifest],
) -> Path:
    graph = hashlib.sha256((path / "model.onnx").read_bytes()).hexdigest()
    shape = [-1, -1, len(LETTERS) + 1]
    manifest = {
        "schema_version": 1,
        "id": path.parent.name,
        "version": path.name,
        "task": "transcription",
        "graphs": {"predict": {"file": "model.onnx", "sha256": graph}},
        "inputs": inputs,
        "outputs": [{"name": "log_probabilities", "datatype": "FP32", "shape": shape}],
        "preprocess": {"modality": modality, "steps": steps},
        "postprocess": {"kind": "transcription", "labels": LETTERS, "seconds": 0.01},
        "goldens": goldens,
    }
    training_side.write(manifest, path)
    return path


ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
ECHO = "echo"


def build_echo(store: Path, name: str = ECHO) -> Path:
    """A bare graph as Triton's users have it, [N, length] of every datatype: out_x = in_x."""
    path = store / name / "1"
    path.mkdir(parents=True)
    (path / "model.onnx").write_bytes(echo_graph(list(ONNX_TYPES)))
    for datatype in ONNX_TYPES:
        single = store / f"{name}_{datatype.lower()}" / "1"
        single.mkdir(parents=True)
        (single / "model.onnx").write_bytes(echo_graph([datatype]))
    return path


def echo_graph(datatypes: list[str]) -> bytes:
    """The graph that gives back what it is given: an input and an output of each datatype."""
    nodes, given, taken = [], [], []
    for datatype in datatypes:
        word, kind = datatype.lower(), ONNX_TYPES[datatype]
        nodes.append(helper.make_node("Identity", [f"in_{word}"], [f"out_{word}"]))
        given.append(helper.make_tensor_value_info(f"in_{word}", kind, ["n", "length"]))
        taken.append(helper.make_tensor_value_info(f"out_{word}", kind, ["n", "length"]))
    graph = helper.make_graph(nodes, "echo", given, taken)
    opset = helper.make_opsetid("", 17)
    model: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    return model
