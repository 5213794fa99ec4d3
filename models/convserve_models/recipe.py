"""Everything needed to train a network again, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Byte work before the graph, in the words of the artifact's schema."""

    modality: Literal["image", "text"]
    steps: tuple[Step, ...]

    @classmethod
    def square(cls, side: int) -> Preprocess:
        """The middle square of an image, `side` pixels wide."""
        resize = {"op": "resize", "shorter": side, "filter": "bilinear"}
        return cls("image", ({"op": "decode"}, resize, {"op": "center_crop", "size": [side, side]}))

    @property
    def input_name(self) -> str:
        """The graph's input."""
        return {"image": "image", "text": "ids"}[self.modality]

    @property
    def datatype(self) -> str:
        """The input's datatype, in the words of the Open Inference Protocol."""
        return {"image": "UINT8", "text": "INT64"}[self.modality]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What the last step leaves: [H, W, 3] of an image, [length] of a text."""
        last = self.steps[-1]
        return (*last["size"], 3) if self.modality == "image" else (last["length"],)

    @property
    def input_values(self) -> int:
        """How many different values an element of the input may have, counted from 0."""
        return 256 if self.modality == "image" else len(self.steps[-1]["alphabet"]) + 1


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
    task: Literal["classification"] = "classification"
    optimiser: Literal["sgd", "adamw"] = "sgd"
    batch_size: int = 128
    warm_up: float = 0.2
    """Share of all steps in which the one-cycle schedule still rises."""
    label_smoothing: float = 0.0
    augment: tuple[str, ...] = ()
    held_out: int = 2000
    """Training samples never trained on; temperature and conformal threshold come from them."""
    seed: int = 0
    max_batch_size: int = 32
    notes: tuple[str, ...] = field(default=())
    """Deviations from the paper, printed on the artifact's card."""
