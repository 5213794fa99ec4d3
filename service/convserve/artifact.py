"""The artifact: what its manifest may say, and how a directory is proved to be one.

The contract is models/store/artifact.schema.json; the classes below accept and refuse the same.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from convserve.errors import InvalidArtifact

BARE_GRAPH = "model.onnx"
SIGNED = ("manifest.json", "manifest.sha256")  # they tell what the other files must be
BESIDE = {"explain", "features", "int8"}  # the graphs without which a model answers
RE_EXPORT = "export the artifact again, or restore the file from where it was exported"
DYNAMIC_BATCH = (
    "in torch: onnx.export(…, dynamo=True, dynamic_shapes=({0: torch.export.Dim('batch')},))"
)
Described = Mapping[str, object]


def _whole(value: object) -> object:
    # JSON Schema knows one kind of number: 1.0 is an integer.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{twice!r} is listed twice")
    return values


Integer = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[Integer, Field(ge=0)]
Positive = Annotated[Integer, Field(ge=1)]
Text = Annotated[str, StringConstraints(min_length=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")
]
Axes = tuple[Positive, ...]
Probability = Annotated[float, Field(ge=0, le=1)]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip


class Fact(BaseModel):
    """Part of a manifest: nothing unknown, nothing converted, nothing null."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _no_nulls(self) -> "Fact":
        nulls = [name for name in self.model_fields_set if getattr(self, name) is None]
        if nulls:
            raise ValueError(f"{nulls[0]!r} is null: leave it out")
        return self


class Architecture(Fact):
    """The network family and its size."""

    name: Text
    parameters: Count | None = None
    macs: Count | None = None
    paper: Text | None = None
    arguments: dict[str, Any] | None = None


class Dataset(Fact):
    """What the model was trained on."""

    name: Text
    licence: Text | None = None
    source: Text | None = None
    variant: Literal["official", "packed", "own"] | None = None
    n: dict[str, Count] | None = None
    checksum: dict[str, Sha256] | None = None


class Graph(Fact):
    """One ONNX file."""

    file: RelativePath
    sha256: Sha256
    bytes: Count | None = None
    opset: Positive | None = None


class Metric(Fact):
    """A measured figure, with its n and its 95 % interval."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
    value: float
    n: Positive
    interval: tuple[float, float] | None = None
    split: Text
    model: Text | None = None


class Quantized(Graph):
    """The predicting graph in integers of 8 bits, and what that costs."""

    tolerance: Annotated[float, Field(gt=0, le=0.1)]
    kept_in_float: tuple[Text, ...] = ()
    metrics: tuple[Metric, ...] = ()


class Graphs(Fact):
    """The ONNX files by role; without `predict` nothing is served."""

    predict: Graph
    int8: Quantized | None = None
    explain: Graph | None = None
    features: Graph | None = None
    encoder: Graph | None = None
    step: Graph | None = None


class Tensor(Fact):
    """An input or output of the graph; −1 is a dynamic axis, the first axis is the batch."""

    name: Text
    datatype: Datatype
    shape: Annotated[tuple[Annotated[Integer, Field(ge=-1)], ...], Field(min_length=1)]


class Decode(Fact):
    """Image bytes → RGB uint8 [H,W,3], upright, over white."""

    op: Literal["decode"]


class Resize(Fact):
    """The shorter side to so many pixels."""

    op: Literal["resize"]
    shorter: Positive
    filter: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bilinear"


class CenterCrop(Fact):
    """The middle [height, width]."""

    op: Literal["center_crop"]
    size: tuple[Positive, Positive]


class Lowercase(Fact):
    """Unicode lower case."""

    op: Literal["lowercase"]


class Characters(Fact):
    """Text → int64 [length]."""

    op: Literal["characters"]
    alphabet: Text
    length: Positive
    reverse: bool = False


class Words(Fact):
    """Text → int64 [n], n ≤ length."""

    op: Literal["words"]
    length: Positive


class Pcm(Fact):
    """Sound bytes → float32 [length], one channel."""

    op: Literal["pcm"]


class Resample(Fact):
    """So many samples a second."""

    op: Literal["resample"]
    rate: Annotated[Integer, Field(ge=4_000, le=192_000, multiple_of=25)]


class Frames(Fact):
    """A NumPy file → float32 [length, coefficients]."""

    op: Literal["frames"]
    coefficients: Positive


class Pad(Fact):
    """Filled behind the end, up to the next of these lengths: with 0 if ids, else with NaN."""

    op: Literal["pad"]
    lengths: Annotated[tuple[Positive, ...], Field(min_length=1)]


Step = Annotated[
    Decode | Resize | CenterCrop | Lowercase | Characters | Words | Pcm | Resample | Frames | Pad,
    Field(discriminator="op"),
]


class Preprocess(Fact):
    """How raw bytes become the graph's input."""

    modality: Literal["image", "text", "audio", "cepstra"]
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


class Collate(Fact):
    """How inputs join a batch."""

    kind: Literal["stack"]


class Conformal(Fact):
    """Labels at least as probable as the threshold form a set of the stated coverage."""

    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: Probability


class OutOfDistribution(Fact):
    """Inputs whose score, an output of the graph, is over the threshold are unlike the dataset."""

    output: Text
    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: float


class Postprocess(Fact):
    """How the graph's output becomes an answer."""

    kind: Literal["classification"]
    labels: Annotated[tuple[Text, ...], Field(min_length=2), AfterValidator(_distinct)]
    temperature: Annotated[float, Field(gt=0)] | None = None
    conformal: Conformal | None = None
    out_of_distribution: OutOfDistribution | None = None


class TranscriptionPostprocess(Fact):
    """Output 0 is CTC's blank, output i the label i - 1; positions follow each other by seconds."""

    kind: Literal["transcription"]
    labels: Annotated[tuple[Text, ...], Field(min_length=2), AfterValidator(_distinct)]
    seconds: Annotated[float, Field(gt=0)]


class Bin(Fact):
    """Samples of similar confidence: its mean, the share that was right, how many they are."""

    confidence: Probability
    accuracy: Probability
    n: Positive


class Evaluation(Fact):
    """What drawings of a classifier are made from; confusion is by true label, then said label."""

    split: Text
    reliability: tuple[Bin, ...] | None = None
    confusion: tuple[tuple[Count, ...], ...] | None = None


class Golden(Fact):
    """A raw input and the probabilities, by name, that the training side computed for it."""

    input: RelativePath
    sha256: Sha256
    media_type: Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9.+-]+$")]
    licence: Text | None = None
    note: Text | None = None
    expected: Annotated[dict[str, Probability], Field(min_length=1)]
    tolerance: Annotated[float, Field(gt=0, le=0.1)]


class Limits(Fact):
    """What the model was made for."""

    max_batch_size: Positive | None = None
    max_length: Positive | None = None
    max_pixels: Positive | None = None


class Layer(Fact):
    """A row of the pyramid: one layer and what it sees."""

    layer: Text
    kind: Text
    kernel: Axes
    stride: Axes
    padding: tuple[tuple[Integer, Integer], ...]
    dilation: Axes
    shape: Axes
    receptive_field: Axes
    jump: tuple[Annotated[float, Field(gt=0)], ...]
    parameters: Count
    macs: Count


class Manifest(Fact):
    """The card of an artifact, schema_version 1."""

    schema_version: Annotated[Integer, Field(ge=1, le=1)]
    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", max_length=64)]
    version: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
    title: Text | None = None
    created: Text | None = None
    architecture: Architecture | None = None
    recipe: Text | None = None
    revision: Text | None = None
    environment: dict[str, str] | None = None
    dataset: Dataset | None = None
    task: Literal["classification", "transcription"]
    graphs: Graphs
    inputs: Annotated[tuple[Tensor, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Tensor, ...], Field(min_length=1)]
    preprocess: Preprocess
    collate: Collate = Collate(kind="stack")
    postprocess: Annotated[Postprocess | TranscriptionPostprocess, Field(discriminator="kind")]
    metrics: tuple[Metric, ...] = ()
    baselines: tuple[Metric, ...] = ()
    evaluation: Evaluation | None = None
    goldens: Annotated[tuple[Golden, ...], Field(min_length=1)]
    limits: Limits = Limits()
    pyramid: tuple[Layer, ...] = ()
    licence: Text | None = None
    notes: tuple[Text, ...] = ()


class NoBytes(Fact):
    """The preprocessing of tensors: none."""

    modality: Literal["tensor"] = "tensor"
    steps: tuple[Step, ...] = ()


class NoLabels(Fact):
    """The postprocessing of tensors: none."""

    kind: Literal["tensors"] = "tensors"
    labels: tuple[Text, ...] = ()


class Derived(Manifest):
    """What a graph tells of itself. It is never in a file, hence not in the schema."""

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
    task: Literal["inference"] = "inference"  # type: ignore[assignment]
    preprocess: NoBytes = NoBytes()  # type: ignore[assignment]
    postprocess: NoLabels = NoLabels()  # type: ignore[assignment]
    goldens: tuple[Golden, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """A directory whose every file that answers are made of is what its manifest says."""

    path: Path
    manifest: Manifest

    @property
    def graph(self) -> Path:
        """The ONNX file that is served."""
        return self.path / self.manifest.graphs.predict.file

    def beside(self, role: str) -> Path | None:
        """Return the ONNX file of a role without which it can be served, None if there is none.

        Raises InvalidArtifact if it is not what the manifest says.
        """
        graph: Graph | None = getattr(self.manifest.graphs, role)
        if graph is None:
            return None
        _check_digest(self.path, graph.file, graph.sha256)
        _check_reading(self.path, graph, self.manifest)
        return self.path / graph.file


def load_artifact(path: Path) -> Artifact:
    """Read the artifact in the directory `<id>/<version>` and check the digests.

    Those of what explains are checked when they are opened: a model answers without them.

    Raises InvalidArtifact naming the file and the remedy.
    """
    manifest = read_manifest(path)
    directory = path.resolve()
    for claimed, actual in (("id", directory.parent.name), ("version", directory.name)):
        stated = getattr(manifest, claimed)
        if stated != actual:
            raise InvalidArtifact(
                f"{path / 'manifest.json'} says {claimed} {stated!r}, its directory {actual!r}",
                f"rename the directory to {manifest.id}/{manifest.version}",
            )
    for file, digest in _needed(manifest):
        _check_digest(path, file, digest)
    _check_reading(path, manifest.graphs.predict, manifest)
    return Artifact(path, manifest)


def is_bare(path: Path) -> bool:
    """Tell whether a directory is one of Triton's layout: a `model.onnx` and no manifest."""
    signed = any((path / f"manifest.{kind}").exists() for kind in ("json", "sha256"))
    return not signed and (path / BARE_GRAPH).is_file()


def bare_artifact(
    path: Path, inputs: Sequence[Described], outputs: Sequence[Described]
) -> Artifact:
    """Return a bare directory as an artifact that takes and gives tensors.

    `inputs` and `outputs` are what its graph says: name, datatype and shape of each. Raises
    InvalidArtifact if a first axis is no batch: missing, or fixed at another size than 1.
    """
    graph, place = path / BARE_GRAPH, path.resolve()
    content = _read(graph)
    facts = {
        "schema_version": 1,
        "id": place.parent.name,
        "version": place.name,
        "graphs": {"predict": {"file": BARE_GRAPH, "sha256": hashlib.sha256(content).hexdigest()}},
        "inputs": tuple(inputs),
        "outputs": tuple(outputs),
    }
    try:
        manifest = Derived.model_validate(facts)
    except ValidationError as error:
        raise InvalidArtifact(
            f"{graph}: {_first(error)}",
            "name its directory with letters, digits, dots, dashes and underscores, and export it "
            f"with the batch as first axis; {DYNAMIC_BATCH}",
        ) from None
    return Artifact(path, manifest.model_copy(update={"limits": _limits(graph, manifest)}))


def _limits(graph: Path, manifest: Manifest) -> Limits:
    tensors = [*manifest.inputs, *manifest.outputs]
    for tensor in tensors:
        if tensor.shape[0] not in (-1, 1):
            raise InvalidArtifact(
                f"{graph}: the first axis of {tensor.name!r} {list(tensor.shape)} is fixed at "
                f"{tensor.shape[0]}, so it is no batch",
                DYNAMIC_BATCH,
            )
    batches = all(tensor.shape[0] == -1 for tensor in tensors)
    return Limits() if batches else Limits(max_batch_size=1)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in the directory `path`, its signature first; raises InvalidArtifact."""
    file = path / "manifest.json"
    content = _read(file)
    _check_signature(file, content)
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise InvalidArtifact(
            f"{file}: {_first(error)}",
            "write it as models/store/artifact.schema.json says, then sign it again",
        ) from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the manifest'}: {first['msg']}"


def _check_signature(file: Path, content: bytes) -> None:
    signature = file.with_suffix(".sha256")
    make = (
        f"if {file.name} is as you mean it, sign it: "
        f"cd {file.parent} && sha256sum {file.name} > {signature.name}"
    )
    if not signature.is_file():
        raise InvalidArtifact(f"{signature} is missing", make)
    stated = _read(signature).decode("ascii", "replace").split()
    if stated != [hashlib.sha256(content).hexdigest(), file.name]:
        raise InvalidArtifact(f"{file} does not have the digest in {signature}", make)


def digests(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield the name and the SHA-256 of every file that the manifest lists."""
    yield from _needed(manifest)
    for role in sorted(BESIDE):
        graph: Graph | None = getattr(manifest.graphs, role)
        if graph is not None:
            yield graph.file, graph.sha256


def _needed(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield those without which it cannot be served."""
    for role in Graphs.model_fields.keys() - BESIDE:
        graph: Graph | None = getattr(manifest.graphs, role)
        if graph is not None:
            yield graph.file, graph.sha256
    for golden in manifest.goldens:
        yield golden.input, golden.sha256


def _check_reading(root: Path, graph: Graph, manifest: Manifest) -> None:
    """Refuse a graph that names a file beside it which no checked digest covers.

    ONNX Runtime reads such external data. Where they are is a string in the graph, as every string
    behind its length: a name that only ends like a file's is not meant.
    """
    covered = {*SIGNED, graph.file, *(name for name, _ in _needed(manifest))}
    beside = {file for file in root.rglob("*") if file.is_symlink() or not file.is_dir()}
    strange = sorted(file for file in beside if file.relative_to(root).as_posix() not in covered)
    content = _read(root / graph.file) if strange else b""
    for file in strange:
        name = file.name.encode()
        if any(start + name in content for start in (_length(name), b"/")):
            raise InvalidArtifact(
                f"{root / graph.file} names {file}, which has no digest in the manifest",
                "export the graph with its weights inside (external_data=False)",
            )


def _length(string: bytes) -> bytes:
    """Return the last byte of its length as Protocol Buffers write it, seven bits a byte."""
    length = len(string)
    while length > 127:
        length >>= 7
    return bytes([length])


def _check_digest(root: Path, name: str, digest: str) -> None:
    file = root / name
    if not file.resolve().is_relative_to(root.resolve()):
        raise InvalidArtifact(f"{file} leads out of the artifact", "copy the file into it")
    with _reading(file), file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != digest:
        raise InvalidArtifact(f"{file} does not have the digest in the manifest", RE_EXPORT)


def _read(file: Path) -> bytes:
    with _reading(file):
        return file.read_bytes()


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidArtifact(f"{file} cannot be read: {error.strerror}", RE_EXPORT) from None
