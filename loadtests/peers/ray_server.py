"""Ray Serve: two replicas of one thread, batches of 8 or after 10 ms."""

import os
import signal

import ray
from ray import serve
from starlette.requests import Request

from loadtests.peers.classifier import Classifier


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=256)
class Inference:
    """Decodes and classifies."""

    def __init__(self) -> None:
        self._classifier = Classifier()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def classify(self, pictures: list[object]) -> list[dict[str, float]]:
        """Answer a batch."""
        return self._classifier.classify(pictures)

    async def __call__(self, request: Request) -> object:
        """Answer a picture; say that it is up if there is none."""
        body = await request.body()
        return await self.classify(self._classifier.decode(body)) if body else "ready"


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["CONVSERVE_PORT"])})
    serve.run(Inference.bind(), route_prefix="/predict")  # type: ignore[attr-defined]
    signal.sigwait([signal.SIGTERM])
    ray.shutdown()
