"""What a network says about a split: a checkpoint's logits, an ONNX file's probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from convserve_models import network
from convserve_models.data import Split
from convserve_models.recipe import Recipe
from convserve_models.tasks import transcription

BATCH = 250
SOUNDS = 16


@torch.no_grad()
def logits(model: nn.Module, recipe: Recipe, split: Split) -> NDArray[np.float32]:
    """Logits `[N, labels, ...]` of a network in evaluation mode, computed where its weights are."""
    model.eval()
    device = next(model.parameters()).device
    inputs = network.tensor(recipe, split)  # at once: all of one length
    starts = range(0, len(inputs), BATCH)
    parts = [model(inputs[at : at + BATCH].to(device)).cpu().numpy() for at in starts]
    return np.concatenate(parts)


def probabilities(path: Path, recipe: Recipe, split: Split) -> NDArray[np.float32]:
    """Probabilities `[N, labels]` from the exported file itself, by ONNX Runtime."""
    return outputs(path, recipe, split)[0]


def best_paths(path: Path, recipe: Recipe, split: Split) -> list[tuple[int, ...]]:
    """The letters `[N]` that a recogniser's exported file hears, by ONNX Runtime."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    heard = []
    for part in network.batches(split, SOUNDS):
        (said,) = session.run(None, {name: network.tensor(recipe, part).numpy()})
        heard += transcription.greedy(said.transpose(0, 2, 1))
    return heard


def outputs(path: Path, recipe: Recipe, split: Split) -> list[NDArray[np.float32]]:
    """All outputs of the exported file, in its order, by ONNX Runtime."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: network.tensor(recipe, part).numpy()})
        for part in network.batches(split, BATCH)
    ]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
