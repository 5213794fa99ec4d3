"""What all of them do with a picture: Pillow, NumPy and ONNX Runtime."""

import sys
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image


def decode(body: bytes, side: int) -> Any:
    """Return uint8 [side, side, 3]."""
    return np.asarray(Image.open(BytesIO(body)).convert("RGB").resize((side, side)))


class Classifier:
    """Encoded pictures → probabilities by label, as the command line says."""

    def __init__(self) -> None:
        graph, side, labels, threads = sys.argv[1:5]
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(threads)  # 0: one for each core that the machine shows
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._side, self._labels = int(side), labels.split(",")

    def decode(self, body: bytes) -> Any:
        """Return uint8 [SIDE, SIDE, 3]."""
        return decode(body, self._side)

    def classify(self, pictures: Sequence[Any]) -> list[dict[str, float]]:
        """Return the probability of every label, for each picture."""
        rows = self._session.run(None, {self._input: np.stack(pictures)})[0]
        return [dict(zip(self._labels, row.tolist(), strict=True)) for row in rows]
