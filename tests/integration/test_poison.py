"""One input on which the network itself fails, in a batch with 63 others, over HTTP."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from convserve.app import Application
from convserve.engine import Arrays
from convserve.engine.isolation import Stop
from convserve.engine.session import Session
from convserve.served_model import ServedModel
from convserve.settings import Settings
from tests.artifacts import TEXT, build_text, text_graph

pytestmark = pytest.mark.anyio
AT = f"/v1/models/{TEXT}/predict"
N = 64
POISON = "zzz"


def poisonous(graph: bytes) -> bytes:
    """The same network, which cannot reshape one value into several: one and one for each z."""
    model = onnx.load_from_string(graph)
    for name, value in (("value", np.zeros(1, np.float32)), ("unit", np.ones(1, np.int64))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    softmax = model.graph.node.pop()
    model.graph.node.extend(
        [
            helper.make_node("Add", ["slow_count", "unit"], ["several"]),
            helper.make_node("Reshape", ["value", "several"], ["nought"]),
            helper.make_node("Add", [softmax.input[0], "nought"], ["same"]),
        ]
    )
    softmax.input[0] = "same"
    model.graph.node.append(softmax)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class Gate:
    """A session whose runs wait until it is open, and which knows the batches that it ran."""

    def __init__(self, session: Session) -> None:
        self.session, self.open, self.sizes = session, threading.Event(), list[int]()

    def run(self, inputs: Arrays, stop: Stop) -> Arrays:
        assert self.open.wait(60)
        self.sizes.append(len(next(iter(inputs.values()))))
        return self.session.run(inputs, stop)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    build_text(tmp_path, graph=poisonous(text_graph(rounds=0)))
    return Settings(store=tmp_path, cores=1, max_batch_size=N, measure_seconds=0, deadline_ms=60000)


@pytest.fixture
async def gate(app: Application) -> AsyncIterator[Gate]:
    model: ServedModel = await app.repository.get(TEXT)
    gate = Gate(model.graphs.answering)
    model.graphs.answering = gate  # type: ignore[assignment]
    yield gate
    model.graphs.answering = gate.session


async def ask(client: httpx.AsyncClient, text: str) -> httpx.Response:
    return await client.post(AT, content=text, headers={"Content-Type": "text/plain"})


async def together(
    app: Application, client: httpx.AsyncClient, gate: Gate, texts: Sequence[str]
) -> list[httpx.Response]:
    """Ask for all of them while another run holds the executor, so that they share the next."""
    model: ServedModel = await app.repository.get(TEXT)
    gate.open.clear()
    gate.sizes.clear()
    first = asyncio.create_task(ask(client, "first"))
    while model.idle:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    asked = [asyncio.create_task(ask(client, text)) for text in texts]
    while model._batcher.waiting < len(texts):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    gate.open.set()
    assert (await first).status_code == 200
    return await asyncio.gather(*asked)


def probabilities(answer: httpx.Response) -> dict[str, float]:
    (prediction,) = answer.json()["predictions"]
    return {entry["label"]: entry["probability"] for entry in prediction["top"]}


async def test_a_poison_in_a_batch_of_64_fails_alone_wherever_it_is(
    app: Application, client: httpx.AsyncClient, gate: Gate, capfd: pytest.CaptureFixture[str]
) -> None:
    gate.open.set()
    good = [f"text {number}, {number * 7919}" for number in range(N)]
    alone = [probabilities(await ask(client, text)) for text in good]
    for position in range(N):
        texts = [*good[:position], POISON, *good[position + 1 :]]
        answers = await together(app, client, gate, texts)
        assert gate.sizes[:2] == [1, N]  # they did share a run
        for place, answer in enumerate(answers):
            if place == position:
                assert answer.status_code == 500
                assert answer.json()["code"] == "inference_failed"
                assert "Reshape" not in answer.text
            else:
                assert answer.status_code == 200
                assert probabilities(answer) == pytest.approx(alone[place], abs=1e-6)
    assert "onnxruntime" not in capfd.readouterr().err  # which writes there by itself
