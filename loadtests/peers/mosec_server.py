"""mosec: two workers of one thread, batches of 8 or after 10 ms."""

import os

from mosec import Server, Worker

from loadtests.peers.classifier import Classifier


class Inference(Worker):
    """Decodes and classifies."""

    def __init__(self) -> None:
        super().__init__()
        self._classifier = Classifier()

    def deserialize(self, data: bytes) -> object:
        """Return one picture."""
        return self._classifier.decode(data)

    def forward(self, data: list[object]) -> list[dict[str, float]]:
        """Answer a batch."""
        return self._classifier.classify(data)


if __name__ == "__main__":
    os.environ["MOSEC_PORT"] = os.environ["CONVSERVE_PORT"]
    server = Server()
    server.append_worker(Inference, num=2, max_batch_size=8, max_wait_time=10)
    server.run()
