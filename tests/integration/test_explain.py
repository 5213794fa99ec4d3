"""POST …/explain: what it says is what predictions about changed inputs say."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from convserve import explanation
from convserve.app import create_app
from convserve.settings import Settings
from tests.artifacts import (
    ALPHABET,
    IMAGE,
    IMAGE_LABELS,
    LENGTH,
    SIDE,
    TEXT,
    explain_image,
    image_gradients,
    picture,
    show_image,
)

pytestmark = pytest.mark.anyio
AT_IMAGE, AT_TEXT = f"/v1/models/{IMAGE}/explain", f"/v1/models/{TEXT}/explain"
NATIVE = picture(SIDE, SIDE)
SENTENCE = "Rates rise, ok?"
LONG = "one two " * 40


async def asked(client: httpx.AsyncClient, name: str, **body: Any) -> dict[str, float]:
    answer = await client.post(f"/v1/models/{name}/predict", **body)
    top = answer.json()["predictions"][0]["top"]
    return {entry["label"]: entry["probability"] for entry in top}


@pytest.mark.parametrize("label", [None, *IMAGE_LABELS])
async def test_a_map_tells_what_hiding_costs(client: httpx.AsyncClient, label: str | None) -> None:
    whole = await asked(client, IMAGE, content=NATIVE)
    target = label or max(whole, key=whole.__getitem__)
    answer = await client.post(AT_IMAGE, content=NATIVE, params={"label": label} if label else {})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["model"], found["version"], found["method"]) == (IMAGE, "1", "occlusion")
    assert (found["label"], found["probability"]) == (target, whole[target])
    pixels = np.asarray(Image.open(io.BytesIO(NATIVE)).convert("RGB"))
    windows = explanation.windows(SIDE, SIDE, 64)
    drops = []
    for copy in explanation.covered(pixels, windows):
        file = io.BytesIO()
        Image.fromarray(copy).save(file, "png")
        drops.append(whole[target] - (await asked(client, IMAGE, content=file.getvalue()))[target])
    assert found["runs"] == len(windows)
    expected = explanation.heat((SIDE, SIDE), windows, drops)
    np.testing.assert_allclose(found["map"], expected, atol=1e-5)


async def test_spans_tell_what_hiding_costs(client: httpx.AsyncClient) -> None:
    whole = await asked(client, TEXT, json={"text": SENTENCE})
    found = (await client.post(AT_TEXT, json={"text": SENTENCE})).json()
    target = max(whole, key=whole.__getitem__)
    assert (found["label"], found["probability"]) == (target, whole[target])
    assert [span["text"] for span in found["spans"]] == SENTENCE.split()
    for span in found["spans"]:
        start, end = span["start"], span["end"]
        assert SENTENCE[start:end] == span["text"]
        assert "~" not in ALPHABET
        hidden = SENTENCE[:start] + "~" * (end - start) + SENTENCE[end:]
        without = await asked(client, TEXT, json={"text": hidden})
        assert span["weight"] == pytest.approx(whole[target] - without[target], abs=2e-6)


async def test_spans_are_of_what_the_model_reads(client: httpx.AsyncClient) -> None:
    found = (await client.post(AT_TEXT, json={"text": LONG})).json()
    assert found["spans"][-1]["end"] <= LENGTH


@pytest.mark.parametrize(
    "body",
    [
        {"content": NATIVE},
        {"content": NATIVE, "headers": {"Content-Type": "image/png"}},
        {"files": {"image": NATIVE}},
        {"json": {"image": base64.b64encode(NATIVE).decode()}},
        {"json": {"instances": [base64.b64encode(NATIVE).decode()]}},
    ],
)
async def test_every_form_of_an_image_gives_the_same(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    expected = (await client.post(AT_IMAGE, content=NATIVE)).json()
    assert (await client.post(AT_IMAGE, **body)).json() == expected
    versioned = f"/v1/models/{IMAGE}/versions/1/explain"
    assert (await client.post(versioned, **body)).json() == expected


async def test_a_picture_of_it(client: httpx.AsyncClient) -> None:
    answer = await client.post(AT_IMAGE, content=NATIVE, headers={"Accept": "image/png"})
    assert answer.headers["Content-Type"] == "image/png"
    shown = Image.open(io.BytesIO(answer.content))
    assert (shown.format, shown.size) == ("PNG", (256, 256))


@pytest.mark.parametrize(
    ("url", "body", "status", "place"),
    [
        (AT_IMAGE + "?label=cta", {"content": NATIVE}, 422, "?label"),
        (AT_IMAGE + "?labl=cat", {"content": NATIVE}, 422, "?labl"),
        (AT_IMAGE, {"content": b"\x89PNG broken"}, 422, ""),
        (AT_IMAGE, {"json": {"image": "AAAA", "top_k": 2}}, 422, "/top_k"),
        (AT_TEXT, {"json": {"instances": ["a", "b"]}}, 422, "/instances"),
        (AT_TEXT, {"json": {"text": " "}}, 422, "/text"),
        (AT_TEXT, {"content": b"x", "headers": {"Accept": "image/png"}}, 415, None),
        (AT_TEXT, {"content": b"x", "headers": {"Content-Type": "image/png"}}, 415, None),
        (AT_IMAGE, {"content": NATIVE, "headers": {"X-Request-Timeout-Ms": "0"}}, 400, None),
        ("/v1/models/nothing/explain", {"content": NATIVE}, 404, None),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong(
    client: httpx.AsyncClient, url: str, body: dict[str, Any], status: int, place: str | None
) -> None:
    answer = await client.post(url, **body)
    assert answer.status_code == status, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == (
        [] if place is None else [place]
    )


async def test_the_deadline_holds_for_all_copies_together(client: httpx.AsyncClient) -> None:
    """Each z costs the toy network some milliseconds; 16 of them, 9 times, more than 100."""
    hasty = {"X-Request-Timeout-Ms": "20"}
    answer = await client.post(AT_TEXT, json={"text": "z z z z z z z z"}, headers=hasty)
    assert answer.status_code in {429, 504}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await app.repository.settled()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def methods(client: httpx.AsyncClient) -> list[str]:
    listed: list[str] = (await client.get(f"/v1/models/{IMAGE}")).json()["explanations"]
    return listed


async def test_a_graph_that_explains_is_asked_about_the_label(
    store: Path, settings: Settings
) -> None:
    explain_image(store / IMAGE / "1")
    pixels = np.asarray(Image.open(io.BytesIO(NATIVE)).convert("RGB"), np.float32)
    async with serving(settings.model_copy(update={"store": store})) as client:
        assert await methods(client) == ["occlusion", "cam", "gradient"]
        whole = await asked(client, IMAGE, content=NATIVE)
        for place, label in enumerate(IMAGE_LABELS):
            query = {"method": "gradient", "label": label}
            found = (await client.post(AT_IMAGE, content=NATIVE, params=query)).json()
            assert (found["method"], found["label"], found["runs"]) == ("gradient", label, 1)
            assert found["probability"] == whole[label]
            expected = np.abs(image_gradients()[place]).max(axis=2)
            np.testing.assert_allclose(found["map"], expected, rtol=1e-6)
        shown = (await client.post(AT_IMAGE, content=NATIVE, params={"method": "cam"})).json()
        np.testing.assert_allclose(shown["map"], pixels.mean(axis=2), rtol=1e-5)
        png = {"Accept": "image/png"}
        picture = await client.post(AT_IMAGE, content=NATIVE, params={"method": "cam"}, headers=png)
        assert Image.open(io.BytesIO(picture.content)).size == (256, 256)


@pytest.mark.parametrize("harm", ["broken", "changed", "missing"])
async def test_a_graph_that_cannot_explain_is_no_matter_for_answers(
    store: Path, settings: Settings, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = store / IMAGE / "1"
    explain_image(path, b"no graph" if harm == "broken" else None)
    if harm == "changed":
        (path / "explain.onnx").write_bytes(b"another")
    if harm == "missing":
        (path / "explain.onnx").unlink()
    async with serving(settings.model_copy(update={"store": store})) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert await methods(client) == ["occlusion"]
        assert (await client.post(AT_IMAGE, content=NATIVE)).status_code == 200
        answer = await client.post(AT_IMAGE, content=NATIVE, params={"method": "cam"})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["?method"]
    assert "occlusion" in answer.json()["detail"]
    assert "goes without its graph 'explain'" in caplog.text


async def test_a_graph_that_was_changed_after_it_was_tried_explains_nothing(
    store: Path, settings: Settings
) -> None:
    path = store / IMAGE / "1"
    explain_image(path)
    unwatched = {"store": store, "poll_seconds": 0}
    async with serving(settings.model_copy(update=unwatched)) as client:
        assert "cam" in await methods(client)
        (path / "explain.onnx").write_bytes(b"another")
        answer = await client.post(AT_IMAGE, content=NATIVE, params={"method": "cam"})
        assert (answer.status_code, answer.json()["code"]) == (500, "inference_failed")
        assert (await client.post(AT_IMAGE, content=NATIVE)).status_code == 200


def drawn(layer: dict[str, Any]) -> np.ndarray[Any, Any]:
    head, data = layer["picture"].split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


async def test_maps_are_what_each_convolution_answers(store: Path, settings: Settings) -> None:
    show_image(store / IMAGE / "1")
    pixels = np.asarray(Image.open(io.BytesIO(NATIVE)).convert("RGB"), np.float32)
    async with serving(settings.model_copy(update={"store": store})) as client:
        assert await methods(client) == ["occlusion", "maps"]
        query = {"method": "maps"}
        found = (await client.post(AT_IMAGE, content=NATIVE, params=query)).json()
        assert (found["method"], found["runs"]) == ("maps", 1)
        colours, grey = found["layers"]
        assert (colours["shape"], grey["shape"]) == ([3, SIDE, SIDE], [1, SIDE // 2, SIDE // 2])
        expected = 255 * np.sqrt(pixels / pixels.max())
        for place in range(3):
            left = place * (SIDE + 1)
            tile = drawn(colours)[:SIDE, left : left + SIDE]
            assert np.abs(tile - expected[..., place]).max() <= 0.5 + 1e-3
        png = {"Accept": "image/png"}
        refused = await client.post(AT_IMAGE, content=NATIVE, params=query, headers=png)
        assert refused.status_code == 422
        assert [error["pointer"] for error in refused.json()["errors"]] == ["?method"]


async def test_both_graphs_beside_answer_at_once(store: Path, settings: Settings) -> None:
    """Their inputs differ: they must share no batch."""
    explain_image(store / IMAGE / "1")
    show_image(store / IMAGE / "1")
    async with serving(settings.model_copy(update={"store": store})) as client:
        asked_by = ["cam", "maps", "gradient", "occlusion"] * 6
        answers = await asyncio.gather(
            *(client.post(AT_IMAGE, content=NATIVE, params={"method": name}) for name in asked_by)
        )
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["method"] for answer in answers] == asked_by


@pytest.fixture
async def frugal(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings.model_copy(update={"explain_runs": 4})) as client:
        yield client


async def test_the_operator_bounds_the_runs(frugal: httpx.AsyncClient) -> None:
    image = (await frugal.post(AT_IMAGE, content=NATIVE)).json()
    assert image["runs"] == 4
    text = (await frugal.post(AT_TEXT, json={"text": "a b c d e f g h"})).json()
    assert text["runs"] == len(text["spans"]) == 4
