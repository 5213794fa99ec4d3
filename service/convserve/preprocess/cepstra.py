"""Cepstra made elsewhere, as a NumPy file → arrays (kernels: docs/api.md)."""

from bisect import bisect_left
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from convserve.errors import InputTooLarge, InvalidArtifact, InvalidInput, UnsupportedMedia
from convserve.manifest import Frames, Manifest, Pad
from convserve.preprocess.prepared import SMALL, Pending, Prepared
from convserve.settings import Settings

BEGINNING = b"\x93NUMPY"
FLOATS = {np.dtype(kind) for kind in ("<f2", "<f4", "<f8")}
LARGEST = 1e4  # of a cepstrum's magnitude; ten is much
UNPACKED = 4  # times as many bytes while a file is read, at most
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class CepstraPreprocess:
    """.npy → {input: float32 [length, coefficients]}, NaN behind the end."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        match manifest.preprocess.steps:
            case (Frames() as frames, Pad() as pad):
                self._coefficients, self._lengths = frames.coefficients, sorted(pad.lengths)
            case _:
                raise InvalidArtifact(
                    "preprocess.steps of a model of cepstra must be frames and pad",
                    'write [{"op": "frames", …}, {"op": "pad", …}]',
                )
        self._input = manifest.inputs[0].name

    def peek(self, data: bytes) -> Pending:
        """Read the header of the NumPy file `data`."""
        if not data.startswith(BEGINNING):
            raise UnsupportedMedia("the bytes are no NumPy file; send what numpy.save writes")
        stream = BytesIO(data)
        try:
            read = HEADERS[np.lib.format.read_magic(stream)]
            shape, by_columns, kind = read(stream)
        except Exception as error:
            raise InvalidInput(f"the NumPy header cannot be read: {str(error)[:200]}") from None
        self._check(shape, kind)
        if by_columns or len(data) - stream.tell() != kind.itemsize * shape[0] * shape[1]:
            raise InvalidInput(
                "the NumPy file holds more or less than its header says, or is ordered by columns"
            )
        values = np.frombuffer(data, kind, offset=stream.tell()).reshape(shape)
        return Pending(len(data) > SMALL, UNPACKED * len(data), partial(self._prepare, values))

    def _check(self, shape: tuple[int, ...], kind: np.dtype[np.generic]) -> None:
        if kind not in FLOATS or len(shape) != 2 or shape[1] != self._coefficients or not shape[0]:
            raise InvalidInput(
                f"the array is {kind} {list(shape)}; this model takes float16, float32 or float64 "
                f"[length, {self._coefficients}], little-endian and not empty"
            )
        if shape[0] > self._lengths[-1]:
            raise InputTooLarge(
                f"there are {shape[0]:,} frames; this model takes at most {self._lengths[-1]:,}"
            )

    def _prepare(self, values: NDArray[np.floating]) -> Prepared:
        if not (np.abs(values) <= LARGEST).all():  # no number is within no bound either
            raise InvalidInput(f"the array holds values that are no numbers up to {LARGEST:g}")
        length = self._lengths[bisect_left(self._lengths, len(values))]
        padded = np.full((length, self._coefficients), np.nan, np.float32)
        padded[: len(values)] = values
        return Prepared({self._input: padded}, {})
