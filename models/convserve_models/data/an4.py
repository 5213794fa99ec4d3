"""AN4 (Census): names, numbers and dates, mostly spelled out, of 84 speakers (CMU, 1991).

Sphinx's cepstra, not the sound: 13 coefficients, 100 times a second, of 40 mel filters from 130 to
6,800 Hz. Official: a checkout of the repository, `an4/feat` and `an4/etc`, 948 / 130 utterances.
Packed: `train.npz`, `test.npz`, the same 948 and the 65 of five of the ten test speakers, rounded
to float16. No speaker is in both splits.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from convserve_models.data import Card, Dataset, FetchError, Split
from convserve_models.data.transcripts import encode

CARD = Card(
    name="an4_mfcc",
    source="https://github.com/cphazen/Machine-Learning-Project-ASR, commit 5e478f0ee6c5",
    licence="Carnegie Mellon's own, in the manner of BSD: free for use for any purpose",
    labels=tuple(" abcdefghijklmnopqrstuvwxyz"),
)
COEFFICIENTS = 13
_LINE = re.compile(r"(?:<s> )?(?P<text>[A-Z ]+?)(?: </s>)? \((?P<utterance>[\w-]+)\)")


def load(folder: Path) -> Dataset:
    """Read the packed layout if it is in `folder`, else the official files."""
    if (folder / "train.npz").exists():
        return Dataset(CARD, "packed", *(_packed(folder / f"{p}.npz") for p in ("train", "test")))
    if not (folder / "an4" / "etc").exists():
        raise FetchError(f"clone {CARD.source} into {folder}; no an4/etc is there")
    return Dataset(CARD, "official", *(_official(folder / "an4", p) for p in ("train", "test")))


def _packed(path: Path) -> Split:
    with np.load(path) as file:
        frames = file["feat"].astype(np.float32)
        cepstra = np.split(frames, file["offsets"][1:-1])
        return Split(cepstra, encode([text.lower() for text in file["text"]], CARD.labels))


def _official(folder: Path, part: str) -> Split:
    files = (folder / "etc" / f"an4_{part}.fileids").read_text().split()
    lines = (folder / "etc" / f"an4_{part}.transcription").read_text().splitlines()
    texts = {
        found["utterance"]: found["text"].lower() for found in map(_LINE.match, lines) if found
    }
    # A count of numbers, then big-endian frames.
    cepstra = [
        np.fromfile(folder / "feat" / f"{file}.mfc", ">f4", offset=4)
        .astype(np.float32)
        .reshape(-1, COEFFICIENTS)
        for file in files
    ]
    return Split(cepstra, encode([texts[Path(file).name] for file in files], CARD.labels))
