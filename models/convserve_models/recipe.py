"""Everything needed to train a network again, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Step = Mapping[str, Any]
# The graph's input and its datatype, in the words of the Open Inference Protocol.
INPUTS = {
    "image": ("image", "UINT8"),
    "text": ("ids", "INT64"),
    "audio": ("sound", "FP32"),
    "cepstra": ("cepstra", "FP32"),
}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Byte work before the graph, in the words of the artifact's schema."""

    modality: Literal["image", "text", "audio", "cepstra"]
    steps: tuple[Step, ...]

    @classmethod
    def square(cls, side: int) -> Preprocess:
        """The middle square of an image, `side` pixels wide."""
        resize = {"op": "resize", "shorter": side, "filter": "bilinear"}
        return cls("image", ({"op": "decode"}, resize, {"op": "center_crop", "size": [side, side]}))

    @property
    def input_name(self) -> str:
        """The graph's input."""
        return INPUTS[self.modality][0]

    @property
    def datatype(self) -> str:
        """The input's datatype, in the words of the Open Inference Protocol."""
        return INPUTS[self.modality][1]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the last step leaves; of sounds the shortest, of words at most so many."""
        first, last = self.steps[0], self.steps[-1]
        match self.modality:
            case "image":
                return (*last["size"], 3)
            case "text":
                return (last["length"],)
            case "audio":
                return (last["lengths"][0],)
            case "cepstra":
                return (last["lengths"][0], first["coefficients"])

    @property
    def input_values(self) -> int:
        """How many different values a whole-numbered element may have, counted from 0."""
        if self.modality == "image":
            return 256
        last = self.steps[-1]
        return 2**32 if last["op"] == "words" else len(last["alphabet"]) + 1

    @property
    def variable(self) -> bool:
        """Whether inputs differ in length; shorter ones are filled with zeros at their end."""
        return bool(self.steps[-1]["op"] == "words")

    @property
    def buckets(self) -> tuple[int, ...]:
        """The lengths to which inputs of variable length are filled: powers of two, the longest."""
        (longest,) = self.input_shape
        return (*(2**i for i in range(3, longest.bit_length()) if 2**i < longest), longest)

    @property
    def collate(self) -> dict[str, Any]:
        """How inputs join a batch, in the words of the artifact's schema."""
        if self.variable:
            return {"kind": "pad", "axis": 0, "buckets": list(self.buckets)}
        return {"kind": "stack"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network, its data and its training budget.

    `id` names the artifact, the URL and the recipe's own module: `<architecture>_<dataset>`.
    """

    id: str
    title: str
    architecture: str
    arguments: Mapping[str, Any]
    dataset: str
    preprocess: Preprocess
    epochs: int
    learning_rate: float
    weight_decay: float
    task: Literal["classification", "transcription", "reading"] = "classification"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    batch_size: int = 128
    warm_up: float = 0.2
    """Share of all steps in which the one-cycle schedule still rises."""
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    start: str | None = None
    """The recipe whose checkpoint gives the first values of all parameters of the same name."""
    evidence: float = 30.0
    """The weight of errors against that of size, where a table of n-grams is fitted."""
    half: bool = False
    """Whether the artifact's weights are rounded to float16, which halves its size."""
    held_out: int = 2000
    """Training samples never trained on; temperature and conformal threshold come from them."""
    seed: int = 0
    max_batch_size: int = 32
    notes: tuple[str, ...] = field(default=())
    """Deviations from the paper, printed on the artifact's card."""
