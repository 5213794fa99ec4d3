"""What all of them do with a picture: Pillow, NumPy and ONNX Runtime."""

import json
import os
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

FACTS = "CLASSIFIER"
"""The variable that holds graph, side, labels and threads, as JSON."""


def decode(body: bytes, side: int) -> Any:
    """Return uint8 [side, side, 3]."""
    return fit(Image.open(BytesIO(body)), side)


def fit(picture: Image.Image, side: int) -> Any:
    """Return uint8 [side, side, 3]."""
    return np.asarray(picture.convert("RGB").resize((side, side)))


class Classifier:
    """Encoded pictures → probabilities by label, as the environment says."""

    def __init__(self) -> None:
        facts = json.loads(os.environ[FACTS])
        options = ort.SessionOptions()
        options.intra_op_num_threads = facts["threads"]  # 0: one for each core that there seems
        self._session = ort.InferenceSession(
            facts["graph"], options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.side, self.labels = facts["side"], facts["labels"]

    def decode(self, body: bytes) -> Any:
        """Return uint8 [side, side, 3]."""
        return decode(body, self.side)

    def probabilities(self, pictures: Sequence[Any]) -> Any:
        """Return float32 [pictures, labels]."""
        return self._session.run(None, {self._input: np.stack(pictures)})[0]

    def classify(self, pictures: Sequence[Any]) -> list[dict[str, float]]:
        """Return the probability of every label, for each picture."""
        rows = self.probabilities(pictures)
        return [dict(zip(self.labels, row.tolist(), strict=True)) for row in rows]
