"""One's own data: a folder of pictures with a folder per class, or a CSV file of texts.

The splits are drawn here, class by class, and are the same for the same files: a tenth for the
test, at least ten of all.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from convserve_models.data import Card, Dataset, Split, UnusableData

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SMALLEST = 40
"""Samples without which there is nothing to train, to hold out and to test."""
THUMBNAIL = 128
"""Pixels on the shorter side below which a picture is one."""
Reader = Callable[[bytes], NDArray[np.uint8]]


def name_of(path: Path) -> str:
    """The dataset's name, of small letters, digits and underscores."""
    name = "_".join(re.findall("[a-z0-9]+", path.resolve().stem.lower()))[:64].strip("_")
    return name or "own_data"


def pictures(folder: Path) -> dict[str, list[Path]]:
    """The files of each class; raises `UnusableData`."""
    classes = {
        place.name: sorted(p for p in place.rglob("*") if p.suffix.lower() in ENDINGS)
        for place in sorted(folder.iterdir())
        if place.is_dir() and not place.name.startswith(".")
    }
    empty = [name for name, files in classes.items() if not files]
    if empty or len(classes) < 2:
        what = f"{empty[0]!r} holds no picture" if empty else f"{len(classes)} folders of a class"
        raise UnusableData(
            f"{folder}: {what}; make a folder for each class, two or more, with pictures in each"
        )
    _check_enough(folder, {name: len(files) for name, files in classes.items()})
    return classes


def are_thumbnails(classes: dict[str, list[Path]]) -> bool:
    """Whether most pictures are smaller than a photograph."""
    some = [file for files in classes.values() for file in files[:10]]
    return float(np.median([min(_size(file)) for file in some])) < THUMBNAIL


def images(folder: Path, read: Reader, mean: Sequence[float], std: Sequence[float]) -> Dataset:
    """Read all pictures by `read`, which makes them one size; `mean` and `std` are the network's.

    What cannot be read is named and left out.
    """
    classes = pictures(folder)
    files = [(file, label) for label, name in enumerate(classes) for file in classes[name]]
    inputs, labels = [], []
    for file, label in tqdm(files, desc="pictures", mininterval=1):
        try:
            inputs.append(read(file.read_bytes()))
            labels.append(label)
        except (OSError, UnidentifiedImageError, ValueError) as error:
            tqdm.write(f"{file} is left out: {error}")
    split = Split(np.stack(inputs), np.array(labels, np.int64))
    return _dataset(folder, tuple(classes), split, tuple(mean), tuple(std))


def texts(file: Path) -> Dataset:
    """Read a CSV file with the columns `text` and `label`; raises `UnusableData`."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"text", "label"} <= rows[0].keys():
        found = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise UnusableData(f"{file}: the first line must name the columns text,label, not {found}")
    kept = [row for row in rows if (row["text"] or "").strip() and (row["label"] or "").strip()]
    labels = sorted({row["label"].strip() for row in kept})
    numbers = np.array([labels.index(row["label"].strip()) for row in kept], np.int64)
    if len(labels) < 2:
        raise UnusableData(f"{file}: there is one label only; name two or more")
    _check_enough(file, {name: int((numbers == i).sum()) for i, name in enumerate(labels)})
    split = Split([row["text"] for row in kept], numbers)
    return _dataset(file, tuple(labels), split, (), ())


def _dataset(
    path: Path,
    labels: tuple[str, ...],
    split: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Dataset:
    test = _drawn(split.labels)
    rest = np.setdiff1d(np.arange(len(split)), test)
    card = Card(name_of(path), "its owner's own", "its owner's to say", labels, mean, std)
    return Dataset(card, "own", split.take(rest), split.take(test))


def _drawn(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the test split: of each class the same share."""
    random = np.random.default_rng(0)
    share = max(0.1, 10 / len(labels))
    drawn = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        drawn.append(random.permutation(places)[: max(1, round(share * len(places)))])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _check_enough(path: Path, counts: dict[str, int]) -> None:
    rarest = min(counts, key=counts.__getitem__)
    if sum(counts.values()) < SMALLEST or counts[rarest] < 5:
        raise UnusableData(
            f"{path}: {sum(counts.values())} samples, {counts[rarest]} of {rarest!r}; give at "
            f"least {SMALLEST}, and five of each class"
        )


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as picture:
            return picture.size
    except (OSError, UnidentifiedImageError):
        return THUMBNAIL, THUMBNAIL
