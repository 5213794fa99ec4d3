"""Resizing: across, then down, each rounded to 8 bits, antialiased by Pillow's kernels.

By the processor's vector instructions, which take an eighth of Pillow's time; a pixel may differ
from Pillow's by rounding. Where there is no wheel of theirs, Pillow does it all.
"""

from PIL import Image

try:
    import cykooz_resizer as vectors
except ImportError:
    vectors = None

KERNELS = {"bilinear": "bilinear", "bicubic": "catmull_rom", "lanczos": "lanczos3"}
"""The words of a manifest → what the vectors' library calls them. A box has other edges there."""


def resized(image: Image.Image, size: tuple[int, int], kernel: str) -> Image.Image:
    """Return an RGB image of this (width, height); by a manifest's word for a kernel."""
    width, _ = size
    return _pass(_pass(image, (width, image.height), kernel), size, kernel)


def _pass(image: Image.Image, size: tuple[int, int], kernel: str) -> Image.Image:
    """Resize along one side."""
    if image.size == size:
        return image
    if vectors is None or kernel not in KERNELS:
        return image.resize(size, Image.Resampling[kernel.upper()])
    filling = vectors.ResizeAlg.convolution(vectors.FilterType[KERNELS[kernel]])
    done = Image.new("RGB", size)
    # Not shared: it belongs to the thread that uses it, and keeps what it needed.
    vectors.Resizer().resize_pil(image, done, vectors.ResizeOptions(filling))
    return done
