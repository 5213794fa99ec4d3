"""The plainest PNG files, past Pillow's layers: what most clients of small networks send.

`read` takes those whose pixels hang on nothing but IHDR and IDAT. Everything else, and everything
that is damaged, is left to Pillow, which knows what to do or what to say (PNG: ISO/IEC 15948).
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from PIL import Image

BEGINNING = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
HEADER = Struct(">IIBBBBB")  # width, height, bits, colour, compression, filter, interlacing
START, CHECK = Struct(">I4s"), Struct(">I")  # of a chunk: length and type; its CRC-32
MODES = {(8, 0, 0, 0, 0): "L", (8, 2, 0, 0, 0): "RGB"}
"""What follows the size in the header → Pillow's name for it."""

IRRELEVANT = {b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs", b"bKGD", b"tIME"}
"""Chunks that Pillow does not let change the pixels either. Text may hold an orientation."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A PNG file of one kind: mode, size in pixels, and what its IDAT chunks hold."""

    mode: str
    width: int
    height: int
    packed: bytes

    def decode(self, otherwise: Callable[[], Image.Image]) -> Image.Image:
        """Return the image as 8-bit RGB, or `otherwise` if the pixels are damaged."""
        size = self.width, self.height
        try:
            image = Image.frombytes(self.mode, size, self.packed, "zip", self.mode, 0)
        except Exception:
            return otherwise()
        return image if self.mode == "RGB" else image.convert("RGB")


def read(data: bytes) -> Plain | None:
    """Return the parts of a plain PNG file that is whole, None for anything else."""
    if not data.startswith(BEGINNING):
        return None
    try:
        width, height, *kind = HEADER.unpack_from(data, len(BEGINNING))
        mode, packed = MODES.get(tuple(kind)), _packed(data)
    except Exception:
        return None
    return Plain(mode, width, height, packed) if mode and packed and width and height else None


def _packed(data: bytes) -> bytes | None:
    """Return what the IDAT chunks hold, None if a chunk is unknown, damaged or missing."""
    pieces = []
    place = len(BEGINNING) - START.size  # of IHDR, which is checked like the others
    while True:
        length, kind = START.unpack_from(data, place)
        begin = place + START.size
        place = begin + length + CHECK.size
        if crc32(data[begin - 4 : begin + length]) != CHECK.unpack_from(data, begin + length)[0]:
            return None
        if kind == b"IDAT":
            pieces.append(data[begin : begin + length])
        elif kind == b"IEND":
            return b"".join(pieces)
        elif kind not in IRRELEVANT and begin != len(BEGINNING):
            return None
