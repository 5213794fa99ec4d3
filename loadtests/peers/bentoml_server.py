"""BentoML: two workers of one thread, adaptive batches of at most 8, the picture in a form."""

import os
import sys

import bentoml
from PIL import Image

from loadtests.peers.classifier import Classifier, fit


@bentoml.service(workers=2, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Inference:
    """Decodes and classifies."""

    def __init__(self) -> None:
        self._classifier = Classifier()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=10_000)
    def predict(self, file: list[Image.Image]) -> list[dict[str, float]]:
        """Answer a batch."""
        return self._classifier.classify([fit(one, self._classifier.side) for one in file])


if __name__ == "__main__":
    service = "loadtests.peers.bentoml_server:Inference"
    options = ["--host", "127.0.0.1", "--port", os.environ["CONVSERVE_PORT"]]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", service, *options])
