"""What the users send: the goldens of the artifacts that a model store marks default."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One golden: a raw body, and the labels or transcripts that are a right answer to it."""

    model: str
    version: str
    media_type: str
    body: bytes
    answers: frozenset[str]


def read_store(store: Path, max_bytes: int) -> dict[str, list[Sample]]:
    """Return modality -> samples of at most ``max_bytes``, from each default artifact's latest.

    Raises ``ValueError`` when the store has none of that size.
    """
    found: dict[str, list[Sample]] = defaultdict(list)
    for name in json.loads((store / "store.json").read_text())["default"]:
        manifest = json.loads((latest_version(store / name) / "manifest.json").read_text())
        found[manifest["preprocess"]["modality"]] += read_model(store / name, max_bytes)
    if not any(found.values()):
        raise ValueError(f"{store} has no golden of at most {max_bytes} bytes: raise --max-bytes")
    return {modality: samples for modality, samples in found.items() if samples}


def read_model(artifact: Path, max_bytes: int) -> list[Sample]:
    """Return the samples of at most ``max_bytes`` of an artifact's latest version."""
    directory = latest_version(artifact)
    manifest = json.loads((directory / "manifest.json").read_text())
    return [s for s in _read_goldens(directory, manifest) if len(s.body) <= max_bytes]


def said(prediction: dict[str, Any]) -> str:
    """Return the label or the transcript of one of an answer's predictions."""
    answer: str = prediction["transcript" if "transcript" in prediction else "label"]
    return answer


def latest_version(artifact: Path) -> Path:
    """Return the directory of the artifact's largest version number."""
    return max((d for d in artifact.iterdir() if d.name.isdecimal()), key=lambda d: int(d.name))


def _read_goldens(directory: Path, manifest: dict[str, Any]) -> Iterator[Sample]:
    for golden in manifest["goldens"]:
        yield Sample(
            model=manifest["id"],
            version=manifest["version"],
            media_type=golden["media_type"],
            body=(directory / golden["input"]).read_bytes(),
            answers=_right_answers(golden, manifest["task"]),
        )


def _right_answers(golden: dict[str, Any], task: str) -> frozenset[str]:
    expected = golden["expected"]
    if task == "transcription":
        return frozenset([transcript(expected)])
    # Two labels closer than the tolerance allows may change places without any fault.
    bar = max(expected.values()) - 2 * golden["tolerance"]
    return frozenset(label for label, p in expected.items() if p >= bar)


def transcript(expected: dict[str, float]) -> str:
    """Return what a golden's `<position> <letter>` spell: repetitions merged, blanks dropped."""
    positions: dict[int, dict[str, float]] = defaultdict(dict)
    for name, probability in expected.items():
        position, letter = name.split(" ", 1)
        positions[int(position)][letter] = probability
    path = [max(letters, key=letters.__getitem__) for _, letters in sorted(positions.items())]
    return "".join(letter for letter, _ in groupby(path))  # the blank's name is empty
