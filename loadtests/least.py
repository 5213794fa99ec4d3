"""The least service: `python -m loadtests.least` answers pictures on uvicorn, and that is all.

A bare ASGI application, whose batches are a fair share of what waits for each idle executor. No
limits, no deadlines, no metrics, no words for what goes wrong: what it costs beside the network is
what Python and uvicorn leave to any service that batches.
"""

import asyncio
import json
import math
import os
import sys
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pyspng
import uvicorn

from loadtests.peers.classifier import Classifier
from loadtests.refuser import Receive, Scope, Send

LARGEST = 8
NICENESS, TURN_SECONDS = 10, 0.0001  # of executors, and for the interpreter: as convserve has them

Waiting = tuple[Any, "asyncio.Future[dict[str, float]]"]


class Batcher:
    """Hands what waits to executors, one to a core; used on one event loop."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: list[Waiting] = []
        self._idle: list[SimpleQueue[list[Waiting]]] = []
        self._loop = asyncio.get_running_loop()
        for core in os.sched_getaffinity(0):
            entrance: SimpleQueue[list[Waiting]] = SimpleQueue()
            self._idle.append(entrance)
            Thread(target=self._serve, args=(entrance, core), daemon=True).start()

    async def ask(self, picture: Any) -> dict[str, float]:
        """Return the probability of every label."""
        answer: asyncio.Future[dict[str, float]] = self._loop.create_future()
        self._waiting.append((picture, answer))
        self._dispatch()
        return await answer

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            share = min(LARGEST, math.ceil(len(self._waiting) / len(self._idle)))
            batch, self._waiting = self._waiting[:share], self._waiting[share:]
            self._idle.pop().put(batch)

    def _serve(self, entrance: SimpleQueue[list[Waiting]], core: int) -> None:
        os.nice(NICENESS)
        os.sched_setaffinity(0, {core})
        while True:
            batch = entrance.get()
            answers = self._classifier.classify([picture for picture, _ in batch])
            self._idle.append(entrance)
            self._loop.call_soon_threadsafe(self._hand_out, batch, answers)

    def _hand_out(self, batch: list[Waiting], answers: list[dict[str, float]]) -> None:
        self._dispatch()
        for (_, waiting), answer in zip(batch, answers, strict=True):
            waiting.set_result(answer)


class Application:
    """Answers POST with a PNG file of the network's size, and GET."""

    def __init__(self) -> None:
        self._batcher: Batcher | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be an ASGI application."""
        if scope["type"] != "http":
            return
        if self._batcher is None:
            self._batcher = Batcher(Classifier())
        body, more = b"", scope["method"] == "POST"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = await self._batcher.ask(pyspng.load(body, "RGB")) if body else {}
        content = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    sys.setswitchinterval(TURN_SECONDS)
    uvicorn.run(
        Application(),
        port=int(os.environ["CONVSERVE_PORT"]),
        lifespan="off",
        proxy_headers=False,
        timeout_graceful_shutdown=1,  # who sends what the network does not take waits for ever
        access_log=False,
        log_level="warning",
    )
