"""The plainest small PNG files, past Pillow: what most clients of small networks send.

`read` takes those whose pixels hang on nothing but IHDR and IDAT. Everything else, and everything
that is damaged, is left to Pillow, which knows what to do or what to say (PNG: ISO/IEC 15948).

Pillow lets other threads run while it decodes, which for so few pixels costs more than decoding:
the event loop gets the interpreter back only when an executor has had its turn. libspng keeps it.
Of what both read they make the same; it does not look at checksums: `read` does, at those of the
chunks, and nobody at zlib's besides.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Any
from zlib import crc32

import numpy as np
import pyspng
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BEGINNING = SIGNATURE + b"\x00\x00\x00\rIHDR"
SIZE = Struct(">II")  # width and height, which the header begins with
KINDS = {b"\x08\x00\x00\x00\x00", b"\x08\x02\x00\x00\x00"}
"""What follows them: bits, colour, compression, filter, interlacing; grey or RGB of 8 bits."""

START, CHECK = Struct(">I4s"), Struct(">I")  # of a chunk: length and type; its CRC-32
BEFORE = len(SIGNATURE)  # where the header's chunk begins
AROUND = START.size + CHECK.size
KIND = slice(len(BEGINNING) + SIZE.size, len(BEGINNING) + SIZE.size + 5)
FIRST = KIND.stop + CHECK.size  # where the chunk after the header begins
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"

ESSENTIAL = {b"IDAT", b"IEND"}
IRRELEVANT = {b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs", b"bKGD", b"tIME"}
"""Chunks that Pillow does not let change the pixels either. Text may hold an orientation."""


@dataclass(slots=True)
class Plain:
    """A PNG file that is whole: its size in pixels, and the file without what is irrelevant."""

    width: int
    height: int
    essential: bytes

    def pixels(self) -> NDArray[np.uint8]:
        """Return the pixels as RGB, uint8 [H,W,3]; raises if they are damaged."""
        pixels: NDArray[Any] = pyspng.load(self.essential, "RGB")
        return pixels


def read(data: bytes, most: int) -> Plain | None:
    """Return the parts of a plain PNG file of at most so many pixels, None for anything else."""
    if not data.startswith(BEGINNING) or data[KIND] not in KINDS:
        return None
    try:
        width, height = SIZE.unpack_from(data, len(BEGINNING))
        essential = _essential(data)
    except Exception:
        return None
    return Plain(width, height, essential) if essential and 0 < width * height <= most else None


def _essential(data: bytes) -> bytes | None:
    """Return the file without what is irrelevant; None if a chunk is unknown or damaged."""
    if not _sound(data, BEFORE, FIRST):
        return None
    length, kind = START.unpack_from(data, FIRST)
    end = FIRST + AROUND + length
    if kind == b"IDAT" and data[end:] == END:  # the plainest of all, as most are
        return data if _sound(data, FIRST, end) else None
    pieces = [data[:FIRST]]
    place, kind = FIRST, b""
    while kind != b"IEND":
        length, kind = START.unpack_from(data, place)
        end = place + AROUND + length
        if not _sound(data, place, end):
            return None
        if kind in ESSENTIAL:
            pieces.append(data[place:end])
        elif kind not in IRRELEVANT:
            return None
        place = end
    return b"".join(pieces)


def _sound(data: bytes, start: int, end: int) -> bool:
    """Tell whether the chunk between is what its checksum says."""
    check = end - CHECK.size
    matches: bool = crc32(data[start + 4 : check]) == CHECK.unpack_from(data, check)[0]
    return matches
