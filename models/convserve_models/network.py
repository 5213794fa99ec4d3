"""From a recipe to a network that eats what the service will send: raw bytes or ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from convserve_models import reference, zoo
from convserve_models.data import Card, Split
from convserve_models.layers.mirrored import Mirrored
from convserve_models.layers.pixels import Pixels
from convserve_models.recipe import Recipe


def build(recipe: Recipe, card: Card) -> nn.Sequential:
    """Untrained network: `uint8 [N,H,W,3]` images or `int64 [N,L]` ids -> logits `[N, labels]`."""
    network = zoo.architecture(recipe.architecture)(**recipe.arguments)
    if recipe.preprocess.modality == "image":
        asked = Mirrored(network) if recipe.mirrored else network
        return nn.Sequential(Pixels(card.mean, card.std), asked)
    return nn.Sequential(network)


def trained(recipe: Recipe, card: Card, checkpoint: Path) -> nn.Sequential:
    """The network with a checkpoint's weights, in evaluation mode."""
    model = build(recipe, card)
    model.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu")["model"])
    if recipe.half:
        model.half().float()
    return model.eval()


def epochs_of(checkpoint: Path) -> int:
    """How many epochs a checkpoint has been trained for."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    return int(state["epoch"])


def without_mirror(model: nn.Sequential) -> nn.Sequential:
    """A network that looks at the mirror image too, asked about the image alone."""
    *first, both = model
    return nn.Sequential(*first, both.get_submodule("network"))


def read(recipe: Recipe, split: Split) -> Split:
    """The same split with its texts read into ids, for those who go over it more than once."""
    if isinstance(split.inputs, list):
        return Split(_ids(recipe, split.inputs), split.labels)
    return split


def tensor(recipe: Recipe, split: Split) -> Tensor:
    """All inputs of a split as the network takes them; datasets of images are already of size."""
    if recipe.preprocess.modality in ("audio", "cepstra"):
        return _padded(list(split.inputs))
    if isinstance(split.inputs, list):
        return pad_sequence(_ids(recipe, split.inputs), batch_first=True)
    return torch.from_numpy(split.inputs)


def adopt(model: nn.Module, checkpoint: Path) -> None:
    """Take over from a checkpoint the parameters whose names the network has too."""
    given = torch.load(checkpoint, weights_only=True, map_location="cpu")["model"]
    own = model.state_dict()
    model.load_state_dict(own | {name: given[name] for name in own.keys() & given.keys()})


def _ids(recipe: Recipe, texts: Sequence[Any]) -> list[Tensor]:
    steps = recipe.preprocess.steps
    return [
        torch.from_numpy(reference.text(text, steps)) if isinstance(text, str) else text
        for text in texts
    ]


def _padded(sequences: Sequence[NDArray[Any]]) -> Tensor:
    """Sequences with NaN after the end of all but the longest; whole numbers to [-1, 1)."""
    arrays = [a / np.float32(2**15) if a.dtype == np.int16 else a for a in sequences]
    return pad_sequence(
        [torch.from_numpy(array) for array in arrays], batch_first=True, padding_value=float("nan")
    )


def batches(split: Split, size: int, order: np.ndarray | None = None) -> Iterator[Split]:
    """Parts of a split in a given order (default: its own), the last one smaller."""
    positions = np.arange(len(split)) if order is None else order
    for start in range(0, len(positions), size):
        yield split.take(positions[start : start + size])
