"""What a manifest may say.

The contract is models/store/artifact.schema.json; the classes below accept and refuse the same.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)


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
