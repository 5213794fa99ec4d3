"""An artifact with a graph of 8-bit integers: which of both answers, and who is told."""

import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from convserve.app import create_app
from convserve.settings import Settings
from tests.artifacts import COARSE, TEXT, build_text, quantize_text, text_graph, text_probabilities

pytestmark = pytest.mark.anyio
ASKED = "Goal!"  # the first golden: what graphs are timed with
CARD = f"/v1/models/{TEXT}"
SLOW_FLOATS = text_graph(rounds=3, slow="g")
SLOW_INTEGERS = text_graph(rounds=3, slow="g", coarse=COARSE)


@asynccontextmanager
async def serving(store: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    wanted = Settings(store=store, cores=1, measure_seconds=0).model_copy(update=settings)
    app = create_app(wanted)
    async with app.router.lifespan_context(app):
        await app.repository.settled()
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def answers(client: httpx.AsyncClient) -> str:
    """Which graph answers, by what it answers; the card and the metrics must say the same."""
    body = {"text": ASKED, "top_k": 3}
    top = (await client.post(f"{CARD}/predict", json=body)).json()["predictions"][0]["top"]
    exact = sorted(map(float, text_probabilities(ASKED)), reverse=True)
    gap = np.abs(np.array([entry["probability"] for entry in top]) - exact).max()
    graph = "float" if gap < 1e-5 else "int8"
    assert (await client.get(CARD)).json()["precision"]["graph"] == graph
    metrics = (await client.get("/metrics")).text
    assert re.findall(r'model_info\{graph="(\w+)"', metrics) == [graph]
    return graph


async def reason(client: httpx.AsyncClient) -> str:
    told: str = (await client.get(CARD)).json()["precision"]["reason"]
    return told


@pytest.mark.parametrize("precision", ["auto", "float", "int8"])
async def test_without_such_a_graph_floats_answer(tmp_path: Path, precision: str) -> None:
    build_text(tmp_path)
    async with serving(tmp_path, precision=precision) as client:
        assert await answers(client) == "float"
        assert await reason(client) == "it has no other"


@pytest.mark.parametrize("precision", ["float", "int8"])
async def test_the_operator_decides(
    tmp_path: Path, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    quantize_text(build_text(tmp_path), accuracies=None)
    with caplog.at_level(logging.INFO):
        async with serving(tmp_path, precision=precision) as client:
            assert await answers(client) == precision
            assert await reason(client) == f"CONVSERVE_PRECISION is {precision}"
    assert f"{TEXT} answers with its {precision} graph" in caplog.text


@pytest.mark.parametrize(
    ("floats", "integers", "accuracies", "chosen", "why"),
    [
        (SLOW_FLOATS, None, (0.9, 0.897), "int8", "accuracy 0.8970 instead of 0.9000 (n = 500)"),
        (SLOW_FLOATS, None, (0.9, 0.8969), "float", "accuracy 0.8969 instead of 0.9000 (n = 500)"),
        (SLOW_FLOATS, None, None, "float", "does not show what int8 costs"),
        (None, SLOW_INTEGERS, (0.9, 0.9), "float", "a run takes 0."),
    ],
    ids=["quick and right", "too often wrong", "not shown", "slower"],
)
async def test_unless_told_integers_answer_where_they_are_quicker_and_as_good(
    tmp_path: Path,
    floats: bytes | None,
    integers: bytes | None,
    accuracies: tuple[float, float] | None,
    chosen: str,
    why: str,
) -> None:
    path = build_text(tmp_path, graph=floats)
    quantize_text(path, integers, accuracies=accuracies)
    async with serving(tmp_path) as client:
        assert await answers(client) == chosen
        assert why in await reason(client)


@pytest.mark.parametrize("harm", ["broken", "changed", "missing", "wrong", "of other outputs"])
@pytest.mark.parametrize("precision", ["auto", "int8"])
async def test_a_graph_that_fails_disables_itself_and_never_the_model(
    tmp_path: Path, harm: str, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = build_text(tmp_path, graph=SLOW_FLOATS)
    graphs = {"broken": b"no graph", "wrong": text_graph(rounds=0, coarse=0.5)}
    other = text_graph(rounds=0).replace(b"probabilities", b"possibilities")
    quantize_text(path, graphs.get(harm, other if harm == "of other outputs" else None))
    if harm == "changed":
        (path / "int8.onnx").write_bytes(text_graph(rounds=0))
    if harm == "missing":
        (path / "int8.onnx").unlink()
    async with serving(tmp_path, precision=precision) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert await answers(client) == "float"
        assert await reason(client) == "its int8 graph fails, as the log tells"
    assert "goes without its graph 'int8'" in caplog.text


async def test_its_tolerance_is_its_own(tmp_path: Path) -> None:
    """Its goldens are those of the model, which it reproduces less closely."""
    quantize_text(build_text(tmp_path), tolerance=1e-4)
    async with serving(tmp_path, precision="int8") as client:
        assert await answers(client) == "float"


async def test_what_was_measured_is_kept_and_belongs_to_the_graph_that_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize_text(build_text(tmp_path / "store", graph=SLOW_FLOATS))

    async def curves(**settings: Any) -> list[dict[str, Any]]:
        """What the card tells before anybody asks."""
        kept = {"cache": tmp_path / "cache", **settings}
        async with serving(tmp_path / "store", **kept) as client:
            known: list[dict[str, Any]] = (await client.get(CARD)).json()["cost"]
            assert await answers(client) == settings.get("precision", "int8")
        return known

    assert await curves() == []
    monkeypatch.setattr("convserve.graphs.gain", lambda *_: 1 / 0)  # not measured again
    assert len(await curves()) == 1
    assert await curves(precision="float") == []  # it costs something else
    assert len(await curves(precision="float")) == 1
    assert await curves() == []
    (file,) = (tmp_path / "cache" / "measured").iterdir()
    assert json.loads(file.read_text())["gain"] > 1.2
