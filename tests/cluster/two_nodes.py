"""The service on two Ray nodes beside the single service: `python -m tests.cluster.two_nodes`.

A node goes under load; the queue grows and shrinks. Prints what was seen as JSON.
"""

import json
import sys
import time
from collections import Counter
from typing import Any

from loadtests.server import convserve
from tests.cluster.local import (
    STORE,
    Load,
    Question,
    answer,
    deploy,
    nodes,
    outcome,
    questions,
    repeated,
    running,
    until,
    wanted,
)

LIGHT_SECONDS = 15  # several times what the autoscaler needs to decide
QUICK = {
    "upscale_delay_s": 1,
    "downscale_delay_s": 5,
    "look_back_period_s": 5,
    "metrics_interval_s": 1,
}


def main(port: int) -> dict[str, Any]:
    """Return what was seen."""
    url, asked = f"http://127.0.0.1:{port}", questions()
    text = next(q for q in asked if q.media_type == "text/plain")
    with nodes(2, port) as cluster:
        (second,) = cluster.worker_nodes
        deploy(port, 2, min_replicas=2, max_replicas=2)
        found: dict[str, Any] = {"compared": compare(url, [*asked, *wrong(asked)])}
        found["goldens"] = Counter(outcome(url, question) for question in asked * 4)
        with Load(url, asked, 4) as load:
            until(lambda: load.seen["right"] > 100, "both are busy")
            cluster.remove_node(second, allow_graceful=False)
            until(lambda: running() == 1, "its replica is lost")
            before = load.seen["right"]
            until(lambda: load.seen["right"] > before + 100, "the other one answers")
        found["node_removed"] = load.seen
        deploy(port, 1, min_replicas=1, max_replicas=2, **QUICK)
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        cluster.wait_for_nodes()
        with Load(url, [text], 4) as load:
            time.sleep(LIGHT_SECONDS)
            found["replicas_under_light_load"] = wanted()
        found["light_load"] = load.seen
        with Load(url, [repeated(text, 64)], 4) as load:
            found["scaled_out_s"] = until(lambda: running() == 2, "scaled out")
        found["scaled_in_s"] = until(lambda: running() == wanted() == 1, "scaled in")
        found["heavy_load"] = load.seen
    return found


def wrong(asked: list[Question]) -> list[Question]:
    """Return requests that must be refused, each for another reason."""
    first = asked[0]
    return [
        Question("/v1/models/nobody/predict", first.body, first.media_type, first.right),
        Question(first.path, first.body, "application/x-nothing", first.right),
        Question(first.path, first.body[:100], first.media_type, first.right),
        Question(first.path + "?top_k=0", first.body, first.media_type, first.right),
    ]


def compare(url: str, asked: list[Question]) -> dict[str, int]:
    """Return how many answers are those of a single service, digit by digit, and how many not."""
    with convserve(STORE, {"CONVSERVE_CORES": "1"}) as single:
        alone = [essence(answer(f"http://127.0.0.1:{single.port}", q)) for q in asked]
    here = [essence(answer(url, question)) for question in asked]
    return Counter("equal" if a == b else f"{a} != {b}" for a, b in zip(alone, here, strict=True))


def essence(found: tuple[int, dict[str, Any]]) -> tuple[int, Any]:
    """Return what of an answer does not depend on the request's id."""
    status, body = found
    return status, {key: value for key, value in body.items() if key != "request_id"}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
