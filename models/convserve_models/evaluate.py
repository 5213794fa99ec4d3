"""What a network says about a split: a checkpoint's logits, an ONNX file's probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

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


def one_thread(path: Path) -> ort.InferenceSession:
    """The exported file in ONNX Runtime, on the thread that asks alone."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def seconds(graphs: Sequence[Path], inputs: NDArray[Any], rounds: int) -> NDArray[np.float64]:
    """Processor seconds `[rounds, graphs]` of one answer of each, in turns, on one thread."""
    sessions = [one_thread(path) for path in graphs]
    feed = {sessions[0].get_inputs()[0].name: inputs}
    runs = [partial(session.run, None, feed) for session in sessions]
    taken = [[_seconds(run) for run in runs] for _ in range(1 + rounds)]
    return np.array(taken[1:])  # the first allocates


def _seconds(run: Callable[[], object]) -> float:
    started = thread_time()
    run()
    return thread_time() - started
