"""LitServe: two workers of one thread, batches of 8 or after 10 ms, the picture in a form."""

import os
from typing import Any

import litserve
from fastapi import Request

from loadtests.peers.classifier import Classifier


class Inference(litserve.LitAPI):
    """Decodes and classifies."""

    def setup(self, device: str) -> None:
        """Load the graph in each worker."""
        self._classifier = Classifier()

    def decode_request(self, request: Request) -> Any:
        """Return one picture."""
        return self._classifier.decode(request["file"].file.read())

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Leave them as they are."""
        return inputs

    def predict(self, pictures: list[Any]) -> list[dict[str, float]]:
        """Answer a batch."""
        return self._classifier.classify(pictures)

    def unbatch(self, output: list[dict[str, float]]) -> list[dict[str, float]]:
        """Leave them as they are."""
        return output

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        """Leave it as it is."""
        return output


if __name__ == "__main__":
    api = Inference(max_batch_size=8, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    port = int(os.environ["CONVSERVE_PORT"])
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning")
