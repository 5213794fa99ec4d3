"""The service as a Ray Serve deployment: `PYTHONPATH=docker/ray serve run docker/ray/serve.yaml`.

Each replica is `create_app` with its own batcher. Ray batches nothing and queues next to nothing:
it lets as many requests through as our queue takes, and adds replicas by the length of that queue.
"""

import math
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingContext

from convserve.app import create_app
from convserve.settings import load_settings

QUEUE = "convserve_queue_depth"
TARGET = 8.0  # inputs that wait in a replica, at which it is busy enough


def build() -> FastAPI:
    """Return the application; called in the replica, on the cores that Ray has given it."""
    cores = ray.get_runtime_context().get_assigned_resources().get("CPU")
    return create_app(load_settings({"cores": cores} if cores else {}))


@serve.deployment
@serve.ingress(build)
class Convserve:
    """One replica."""

    app: FastAPI  # Ray sets it, and runs its lifespan

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return how many inputs wait, of all models together."""
        metrics = self.app.telemetry.registry.collect()
        samples = [s for metric in metrics if metric.name == QUEUE for s in metric.samples]
        return {QUEUE: sum(sample.value for sample in samples)}

    async def check_health(self) -> None:
        """Raise if a required model is not served; while they load that is no fault."""
        repository = self.app.repository
        await repository.settled()
        repository.check_ready()


def scale(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Return so many replicas that each would have TARGET waiting; bounds and delays are Ray's."""
    waiting = (context.aggregated_metrics or {}).get(QUEUE, {})
    return math.ceil(sum(waiting.values()) / TARGET), {}


app = Convserve.bind()
