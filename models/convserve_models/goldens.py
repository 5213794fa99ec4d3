"""Recorded raw inputs with the answers that the service must give again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convserve_models import manifest, reference
from convserve_models.recipe import Preprocess

TOLERANCE = 2e-3
"""Of a golden's probabilities: wide enough for another CPU's arithmetic, narrower than a changed
resize filter, channel order or alphabet moves any of them."""
FEW = 50
"""Labels that a golden lists all of; of more it lists the most probable."""

Answer = Callable[[NDArray[Any]], NDArray[np.floating]]
"""Inputs `[1, …]` after the byte work -> probabilities `[1, labels]`, or of letters `[1, L, …]`."""


def shipped(
    answer: Answer, preprocess: Preprocess, labels: Sequence[str], folder: Path
) -> list[dict[str, Any]]:
    """Copy the project's samples of the modality into `folder` and record what `answer` says."""
    samples = files("convserve_models") / "samples"
    cards = json.loads((samples / "cards.json").read_text(encoding="utf-8"))
    goldens = []
    for card in cards[preprocess.modality]:
        file = card.pop("file")
        content = (samples / file).read_bytes()
        goldens.append(record(answer, preprocess, labels, folder, file, content) | card)
    return goldens


def record(
    answer: Answer,
    preprocess: Preprocess,
    labels: Sequence[str],
    folder: Path,
    file: str,
    content: bytes,
) -> dict[str, Any]:
    """Write one sample to `folder`/samples and return its golden, which lacks its media type."""
    path = folder / "samples" / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (row,) = answer(reference.read(content, preprocess)[None])
    return {
        "input": f"samples/{file}",
        "sha256": manifest.sha256(content),
        "expected": _expected(labels, row),
        "tolerance": TOLERANCE,
    }


def _expected(labels: Sequence[str], row: NDArray[np.floating]) -> dict[str, float]:
    if row.ndim == 2:
        names = ("", *labels)  # CTC's blank is without a letter
        best = enumerate(row.argmax(axis=1).tolist())
        return {f"{at} {names[i]}": round(float(row[at, i]), 6) for at, i in best}
    kept = range(len(labels)) if len(labels) <= FEW else np.argsort(-row)[:FEW]
    return {labels[i]: round(float(row[i]), 6) for i in kept}
