"""Resizing: across, then down, each rounded to 8 bits, antialiased by Pillow's kernels.

By the processor's vector instructions, which take an eighth of Pillow's time; a pixel may differ
from Pillow's by rounding. In large photos, where decoding takes most of the time, and where there
is no wheel of theirs, Pillow does it, to the last bit.
"""

from PIL import Image

try:
    import cykooz_resizer as vectors
except ImportError:
    vectors = None

KERNELS = {"bilinear": "bilinear", "bicubic": "catmull_rom", "lanczos": "lanczos3"}
"""The words of a manifest → what the vectors' library calls them. A box has other edges there."""
LARGE = 1_000_000  # pixels of a photo, from which on Pillow resizes it

Size = tuple[int, int]


def resized(image: Image.Image, size: Size, kernel: str) -> Image.Image:
    """Return an RGB image of this (width, height); by a manifest's word for a kernel."""
    vectorized = vectors and kernel in KERNELS and image.width * image.height < LARGE
    resize = _by_vectors if vectorized else _by_pillow
    for size_now in ((size[0], image.height), size):
        if image.size != size_now:
            image = resize(image, size_now, kernel)
    return image


def _by_pillow(image: Image.Image, size: Size, kernel: str) -> Image.Image:
    return image.resize(size, Image.Resampling[kernel.upper()])


def _by_vectors(image: Image.Image, size: Size, kernel: str) -> Image.Image:
    filling = vectors.ResizeAlg.convolution(vectors.FilterType[KERNELS[kernel]])
    done = Image.new("RGB", size)
    # Not shared: it belongs to the thread that uses it, and keeps what it needed.
    vectors.Resizer().resize_pil(image, done, vectors.ResizeOptions(filling))
    return done
