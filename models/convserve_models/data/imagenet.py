"""ImageNet: 1.28 million photographs in 1,000 classes (ILSVRC 2012, Russakovsky et al., 2015).

Its pictures may not be passed on, and nothing here needs them: weights trained on them come with
packages. `imagenet.txt` holds the classes' names, WordNet's, in the order of the challenge.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from convserve_models.data import Card, Dataset, FetchError

# EfficientNet-Lite's, of pixels from 0 to 1: (pixel - 127) / 128.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
CARD = Card(
    name="imagenet",
    source="https://www.image-net.org/challenges/LSVRC/2012/",
    licence="for non-commercial research and education, by ImageNet's terms of access",
    labels=tuple((files("convserve_models.data") / "imagenet.txt").read_text().splitlines()),
    mean=MEAN,
    std=STD,
)


def load(folder: Path) -> Dataset:
    """Say that there is none."""
    raise FetchError(
        f"ImageNet may not be passed on, and {folder} is not read: `convserve-models import "
        "efficientnet_lite0` takes the weights that others trained on it"
    )
