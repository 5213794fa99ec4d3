"""CIFAR-10: 60,000 photographs of 32×32 pixels in ten classes (Krizhevsky, 2009).

Official: the authors' binary archive, 50,000 / 10,000. Packed: `train_1..5.npz`, `test.npz` with
lossless WebP mosaics of the same pixels, 48,000 / 10,000 (2,000 training images kept apart).
"""

from __future__ import annotations

import io
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convserve_models.data import Card, Dataset, Split
from convserve_models.data.fetch import Remote, fetch

CARD = Card(
    name="cifar10",
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated; the authors ask to cite Krizhevsky, Learning Multiple Layers of "
    "Features from Tiny Images, 2009",
    labels=("airplane", "automobile", "bird", "cat", "deer",
            "dog", "frog", "horse", "ship", "truck"),
    mean=(0.49139968, 0.48215841, 0.44653091),
    std=(0.24703223, 0.24348513, 0.26158784),
)  # fmt: skip
ARCHIVE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
MOSAIC_COLUMNS = 40
SIDE = 32


def load(folder: Path) -> Dataset:
    """Read the packed layout if it is in `folder`, else the official archive."""
    if (folder / "train_1.npz").exists():
        train = [_packed(folder / f"train_{part}.npz") for part in range(1, 6)]
        return Dataset(CARD, "packed", _join(train), _packed(folder / "test.npz"))
    with tarfile.open(fetch(ARCHIVE, folder)) as archive:
        train = [_official(archive, f"data_batch_{part}.bin") for part in range(1, 6)]
        return Dataset(CARD, "official", _join(train), _official(archive, "test_batch.bin"))


def _join(parts: list[Split]) -> Split:
    inputs = np.concatenate([np.asarray(part.inputs, np.uint8) for part in parts])
    return Split(inputs, np.concatenate([part.labels for part in parts]))


def _official(archive: tarfile.TarFile, name: str) -> Split:
    file = archive.extractfile(f"cifar-10-batches-bin/{name}")
    if file is None:
        raise FileNotFoundError(f"{name} is not in the archive")
    rows = np.frombuffer(file.read(), np.uint8).reshape(-1, 1 + 3 * SIDE * SIDE)
    images = rows[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), rows[:, 0].astype(np.int64))


def _packed(path: Path) -> Split:
    with np.load(path) as pack:
        blob, offsets, labels = pack["webp"].tobytes(), pack["offsets"], pack["labels"]
    mosaics = [_tiles(blob[a:b]) for a, b in pairwise(offsets)]
    return Split(np.concatenate(mosaics), labels.astype(np.int64))


def _tiles(encoded: bytes) -> NDArray[np.uint8]:
    mosaic = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    grid = mosaic.reshape(-1, SIDE, MOSAIC_COLUMNS, SIDE, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(-1, SIDE, SIDE, 3)
