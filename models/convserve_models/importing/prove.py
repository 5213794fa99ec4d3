"""Runs of the adapted network, and what they show that no reading of the file can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from convserve_models import reference
from convserve_models.importing import interface
from convserve_models.importing.adapt import adapted
from convserve_models.importing.interface import Interface
from convserve_models.importing.refusal import TORCH, Refusal
from convserve_models.importing.request import Pixels

Floats = NDArray[np.float32]
Images = NDArray[np.uint8]
VARIANCE = 1e-3
"""How far two runs of the same picture may lie apart, relative to its largest score above 1."""
SUMS = 1e-2
EVAL = f"switch dropout and batch statistics off before the export: model.eval(); {TORCH}"


@dataclass(frozen=True)
class Network:
    """A foreign network under test."""

    path: Path
    model: ModelProto
    interface: Interface

    def session(self, pixels: Pixels, softmax: bool) -> ort.InferenceSession:
        """The network behind other pixels."""
        return interface.session(self.path, adapted(self.model, self.interface, pixels, softmax))

    def scores(self, session: ort.InferenceSession, images: Images) -> Floats:
        """Run a batch; raises Refusal."""
        try:
            (scores,) = session.run(None, {"image": images})
        except Exception as error:
            raise interface.diagnosis(
                self.path, f"fails on a batch of {len(images)}", error, "does_not_run"
            ) from None
        return np.asarray(scores)


def picture(sample: Path, pixels: Pixels) -> Images:
    """The sample after the byte work, `[H,W,3]`; raises Refusal."""
    try:
        return reference.image(sample.read_bytes(), pixels.preprocess().steps)
    except Exception as error:
        raise Refusal(
            "sample", f"{sample} is no picture that can be read: {error}", "give a JPEG or PNG"
        ) from None


def examples(sample: Images) -> Images:
    """The sample, noise, black and white: `[5,H,W,3]`."""
    noise = np.random.default_rng(0).integers(0, 256, (2, *sample.shape), np.uint8)
    return np.stack([sample, *noise, np.zeros_like(sample), np.full_like(sample, 255)])


def needs_softmax(network: Network, pixels: Pixels, images: Images) -> bool:
    """Whether the scores are no probabilities yet; raises Refusal if they are unfit for any use."""
    session = network.session(pixels, softmax=False)
    scores = _batch(network, session, images)
    where = f"{network.path}: the output {network.interface.output!r}"
    _check_shape(network, where, scores)
    if not np.isfinite(scores).all():
        names = ("the sample", "noise", "noise", "black", "white")
        bad = [name for name, row in zip(names, scores, strict=True) if not np.isfinite(row).all()]
        raise Refusal(
            "not_finite",
            f"{where} is not finite for {', '.join(dict.fromkeys(bad))}",
            "look for a division by zero, a logarithm of zero or an overflow in float16; export in "
            "float32 and compare with the framework on the same picture",
        )
    _check_alike(
        scores,
        _batch(network, session, images),
        "random",
        f"{where} is random: the same pictures give other scores the second time",
        EVAL,
    )
    alone = np.concatenate([network.scores(session, image[None]) for image in images])
    _check_alike(
        scores, alone, "batch_variance",
        f"{where} depends on the other pictures of the batch", EVAL,
    )  # fmt: skip
    return _are_scores(network, where, scores)


def _batch(network: Network, session: ort.InferenceSession, images: Images) -> Floats:
    try:
        scores = network.scores(session, images)
        if scores.shape[:1] == (len(images),):
            return scores
        why = f"a batch of {len(images)} gives {list(scores.shape)}"
    except Refusal as refusal:
        if refusal.code != "does_not_run" or not _takes(network, session, images):
            raise
        why = refusal.detail
    stated = network.interface.batch
    fixed = f"is fixed at {stated}" if stated else "is stated as dynamic and is not"
    raise Refusal(
        "fixed_batch",
        f"{network.path}: the batch axis {fixed}, and the graph relies on it: {why}",
        f"use -1, x.size(0) or flatten(1) instead of numbers in reshapes; {TORCH}",
    )


def _takes(network: Network, session: ort.InferenceSession, images: Images) -> bool:
    """Whether some size of batch runs."""
    for size in {1, min(network.interface.batch or 1, 64)}:
        try:
            network.scores(session, np.resize(images, (size, *images.shape[1:])))
            return True
        except Refusal:
            pass
    return False


def _check_shape(network: Network, where: str, scores: Floats) -> None:
    if scores.ndim != 2:
        raise Refusal(
            "output_rank",
            f"{where} has the shape {list(scores.shape)}; scores have two axes [N, labels]",
            f"flatten the output in the network's forward: scores.flatten(1); {TORCH}",
        )
    (stated,) = (
        value for value in network.model.graph.output if value.name == network.interface.output
    )
    dims = stated.type.tensor_type.shape.dim
    if len(dims) == 2 and dims[1].dim_value not in (0, scores.shape[1]):
        raise Refusal(
            "wrong_shapes",
            f"{where} is stated with {dims[1].dim_value} scores and gives {scores.shape[1]}",
            f"the file was edited after its export: export it again; {TORCH}",
        )


def _check_alike(first: Floats, second: Floats, code: str, detail: str, remedy: str) -> None:
    scale = np.maximum(np.abs(first).max(axis=1, keepdims=True), 1)
    gap = float((np.abs(first - second) / scale).max())
    if gap > VARIANCE:
        raise Refusal(code, f"{detail} (by {gap:.2g})", remedy)


def _are_scores(network: Network, where: str, scores: Floats) -> bool:
    inside = bool((scores >= -1e-6).all() and (scores <= 1 + 1e-6).all())
    sums = scores.sum(axis=1)
    if inside and np.abs(sums - 1).max() <= SUMS:
        return False
    if any(
        node.op_type == "Sigmoid" and network.interface.output in node.output
        for node in network.model.graph.node
    ):
        raise Refusal(
            "not_exclusive",
            f"{where} ends in a sigmoid: its labels do not exclude each other, and their "
            "probabilities do not sum to one",
            "export a network that chooses one label, without the sigmoid",
        )
    if np.ptp(scores) == 0:
        raise Refusal(
            "constant",
            f"{where} is {scores[0, 0]:g} for every label and every picture",
            "export the trained weights: load them before the export",
        )
    return True


def check_labels(network: Network, labels: tuple[str, ...], count: int) -> None:
    """Raise Refusal unless there is a label for each output."""
    if len(labels) != count:
        hint = " (is there a label 'background' in front?)" if abs(len(labels) - count) == 1 else ""
        raise Refusal(
            "labels_count",
            f"{network.path} gives {count} scores, the file names {len(labels)} labels{hint}",
            f"write {count} labels, one a line, in the order in which the network was trained",
        )


def check_expected(
    network: Network,
    pixels: Pixels,
    labels: tuple[str, ...],
    expect: str,
    sample: Path,
    softmax: bool,
) -> None:
    """Raise Refusal, with what would help, unless the sample has the expected label."""
    if expect not in labels:
        close = get_close_matches(expect, labels, 3)
        raise Refusal(
            "expected_unknown",
            f"the expected label {expect!r} is none of the {len(labels)} labels",
            f"write it as in the list: {', '.join(close or labels[:3])} …",
        )
    answer = _answers(network, labels, sample, softmax)
    row = answer(pixels)
    if labels[int(row.argmax())] == expect:
        return
    best = ", ".join(f"{labels[i]} {row[i]:.3f}" for i in np.argsort(-row)[:3])
    raise Refusal(
        "expected_not_top",
        f"{sample} is {best} to the network, not {expect} ({row[labels.index(expect)]:.3f})",
        _other_pixels(answer, pixels, labels, expect)
        or "give the preprocessing and the order of the labels that the network was trained with "
        "(--preprocess file.json), or a sample that it knows",
    )


def _answers(
    network: Network, labels: tuple[str, ...], sample: Path, softmax: bool
) -> Callable[[Pixels], Floats]:
    def answer(pixels: Pixels) -> Floats:
        session = network.session(pixels, softmax)
        (row,) = network.scores(session, picture(sample, pixels)[None])
        return np.asarray(row)

    return answer


def _other_pixels(
    answer: Callable[[Pixels], Floats], pixels: Pixels, labels: tuple[str, ...], expect: str
) -> str | None:
    """The usual mistakes, tried: which of them makes the sample what it should be?"""
    half, none = (0.5,) * 3, (0.0,) * 3
    guesses = {
        '"channels": "BGR"': replace(pixels, channels="BGR" if pixels.channels == "RGB" else "RGB"),
        '"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]': replace(pixels, mean=half, std=half),
        '"mean": [0, 0, 0], "std": [1, 1, 1]': replace(pixels, mean=none, std=(1.0,) * 3),
        '"mean": [0, 0, 0], "std": [0.00392157, 0.00392157, 0.00392157]': replace(
            pixels, mean=none, std=(1 / 255,) * 3
        ),
    }
    for words, guess in guesses.items():
        if labels[int(answer(guess).argmax())] == expect:
            return f"with {words} in the preprocessing file it is {expect!r}: is that right?"
    return None
