"""A Ray cluster on this machine, and clients of what it serves.

Runs in .venv/ray, with docker/ray on PYTHONPATH.
"""

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import ray
import yaml
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from loadtests.samples import Sample, read_store, said

ROOT = Path(__file__).parents[2]
STORE = ROOT / "models" / "store"
CONFIGURATION = ROOT / "docker" / "ray" / "serve.yaml"
LARGEST = 65536  # bytes of a golden; a photograph takes seconds on a busy machine
TRIES = 300


@contextmanager
def nodes(count: int, port: int) -> Iterator[Cluster]:
    """Run so many nodes with a processor each, room for one replica, until the block ends."""
    room = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=room)
    try:
        for _ in range(count - 1):
            cluster.add_node(**room)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
        yield cluster
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def deploy(port: int, replicas: int, **autoscaling: float) -> None:
    """Apply serve.yaml, for small nodes on loopback; wait until so many replicas are there."""
    found: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    found["http_options"] |= {"host": "127.0.0.1", "port": port}
    found["proxy_location"] = "HeadOnly"
    (application,) = found["applications"]
    application["runtime_env"] = {"env_vars": {"CONVSERVE_STORE": str(STORE)}}
    (deployment,) = application["deployments"]
    deployment["ray_actor_options"] = {"num_cpus": 1}
    deployment["autoscaling_config"] |= autoscaling
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(found))
    until(lambda: running() == wanted() == replicas, f"{replicas} replicas")


def running() -> int:
    """Return how many replicas answer."""
    return _states().get("RUNNING", 0)


def wanted() -> int:
    """Return how many replicas there are, in whatever state."""
    return sum(_states().values())


def _states() -> dict[str, int]:
    applications = serve.status().applications
    deployments = applications["convserve"].deployments if applications else {}
    return dict(deployments["Convserve"].replica_states) if deployments else {}


def until(done: Callable[[], bool], what: str, seconds: float = 120) -> float:
    """Wait for it; returns how long it took, in seconds."""
    begun = time.monotonic()
    while not done():
        if time.monotonic() > begun + seconds:
            raise TimeoutError(f"{what}: not within {seconds} s; {serve.status()}")
        time.sleep(0.1)
    return round(time.monotonic() - begun, 1)


@dataclass(frozen=True)
class Question:
    """A request, and the labels or transcripts that are right for each of its inputs."""

    path: str
    body: bytes
    media_type: str
    right: frozenset[str]


def questions() -> list[Question]:
    """Return every small golden of the models that the store marks default."""
    found = [s for group in read_store(STORE, LARGEST).values() for s in group]
    return [Question(path(s), s.body, s.media_type, s.answers) for s in found]


def path(sample: Sample) -> str:
    """Return where its model is asked."""
    return f"/v1/models/{sample.model}/predict"


def repeated(text: Question, times: int) -> Question:
    """Return one request with a text so many times."""
    body = json.dumps({"instances": [text.body.decode()] * times}).encode()
    return Question(text.path, body, "application/json", text.right)


def answer(url: str, question: Question) -> tuple[int, dict[str, Any]]:
    """Ask once; returns status and body. Raises `OSError` without an answer."""
    headers = {"Content-Type": question.media_type}
    request = urllib.request.Request(url + question.path, question.body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body[:1] == b"{" else {}


def outcome(url: str, question: Question) -> str:
    """Ask once: right, wrong, or why there was no answer."""
    try:
        status, found = answer(url, question)
    except (OSError, ValueError) as error:
        return f"retried after {type(error).__name__}"
    if status != 200:
        return f"retried after {status}"
    return "right" if {said(p) for p in found["predictions"]} <= question.right else "wrong"


class Load:
    """Clients in a closed loop who ask again when there was no answer, and count what they saw."""

    def __init__(self, url: str, asked: list[Question], clients: int) -> None:
        self.seen: Counter[str] = Counter()
        self._over = Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [
            self._pool.submit(self._ask, url, asked[n % len(asked)]) for n in range(clients)
        ]

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for client in self._clients:
            client.result()
        self._pool.shutdown()

    def _ask(self, url: str, question: Question) -> None:
        while not self._over.is_set():
            self._until_answered(url, question)

    def _until_answered(self, url: str, question: Question) -> None:
        for _ in range(TRIES):
            found = outcome(url, question)
            self.seen[found] += 1
            if found in ("right", "wrong"):
                return
            time.sleep(0.1)
        self.seen["given up"] += 1
