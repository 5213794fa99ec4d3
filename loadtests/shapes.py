"""The two shapes of load, as Locust walks through them."""

import random
import time
from typing import ClassVar

from gevent import sleep
from gevent.pool import Group
from locust import FastHttpUser, LoadTestShape, User, task
from locust.exception import StopUser

from loadtests.plan import Plan
from loadtests.samples import Sample
from loadtests.users import ask


class Arrivals(FastHttpUser):
    """The whole crowd of an open loop: sends each request when due, whatever became of others."""

    fixed_count = 1
    concurrency = 4096
    network_timeout = 10.0
    connection_timeout = 10.0
    plan: ClassVar[Plan]
    samples: ClassVar[list[Sample]]

    @task
    def arrive(self) -> None:
        """Send everything, then wait for the last answers."""
        start, requests = time.perf_counter(), Group()
        for due in self.plan.arrivals():
            sleep(max(0.0, start + due - time.perf_counter()))
            requests.spawn(self._send, start + due)
        requests.join()
        raise StopUser

    def _send(self, due: float) -> None:
        ask(self.client, random.choice(self.samples), waited=time.perf_counter() - due)


class Steps(LoadTestShape):
    """Walks through the plan's steps, then ends the run."""

    plan: ClassVar[Plan]
    users: ClassVar[list[type[User]]]

    def tick(self) -> tuple[int, float, list[type[User]]] | None:
        """Return how many users of which kind there should be now."""
        step = self.plan.step_at(self.get_run_time())
        if step is None:
            return None
        count = 1 if self.plan.loop == "open" else round(self.plan.loads[step])
        return count, float(count), self.users
