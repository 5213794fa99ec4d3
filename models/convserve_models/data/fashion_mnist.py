"""Fashion-MNIST: 70,000 grey pictures of 28×28 pixels in ten classes (Xiao et al., 2017).

Official: the authors' four IDX files, 60,000 / 10,000. Packed: `train.npz`, `test.npz` with the
same pixels under xz, 58,000 / 10,000 (2,000 training images kept apart).
"""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convserve_models.data import Card, Dataset, Split
from convserve_models.data.fetch import Remote, fetch

CARD = Card(
    name="fashion_mnist",
    source="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    labels=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    mean=(0.2860,) * 3,
    std=(0.3530,) * 3,
)  # fmt: skip
_ORIGIN = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
TRAIN = (
    Remote(
        f"{_ORIGIN}/train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    Remote(
        f"{_ORIGIN}/train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
)
TEST = (
    Remote(
        f"{_ORIGIN}/t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    Remote(
        f"{_ORIGIN}/t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
SIDE = 28
_IMAGES_HEADER, _LABELS_HEADER = 16, 8  # bytes: magic number and sizes


def load(folder: Path) -> Dataset:
    """Read the packed layout if it is in `folder`, else the official files."""
    if (folder / "train.npz").exists():
        splits = [_packed(folder / f"{part}.npz") for part in ("train", "test")]
        return Dataset(CARD, "packed", *splits)
    return Dataset(CARD, "official", *(_official(part, folder) for part in (TRAIN, TEST)))


def _official(part: tuple[Remote, Remote], folder: Path) -> Split:
    images, labels = (gzip.decompress(fetch(remote, folder).read_bytes()) for remote in part)
    classes = np.frombuffer(labels, np.uint8, offset=_LABELS_HEADER).astype(np.int64)
    return Split(_pictures(np.frombuffer(images, np.uint8, offset=_IMAGES_HEADER)), classes)


def _packed(path: Path) -> Split:
    with np.load(path) as pack:
        pixels = lzma.decompress(pack["images_xz"].tobytes())
        return Split(_pictures(np.frombuffer(pixels, np.uint8)), pack["labels"].astype(np.int64))


def _pictures(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey as colour: the same value in each channel."""
    return grey.reshape(-1, SIDE, SIDE, 1).repeat(3, axis=-1)
