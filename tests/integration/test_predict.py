"""POST …/predict, over the application's whole stack but the sockets."""

import asyncio
import base64
import gzip
import io
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from PIL import Image

from convserve.settings import Settings
from tests.artifacts import (
    IMAGE,
    IMAGE_LABELS,
    LENGTH,
    RESIZED,
    SLOW,
    TEXT,
    TEXT_LABELS,
    image_probabilities,
    picture,
    text_probabilities,
)

pytestmark = pytest.mark.anyio
PICTURE, PHOTO = picture(50, 40), picture(400, 300, "JPEG", orientation=8)
BASE64 = base64.b64encode(PICTURE).decode()
SENTENCE = "Rates rise."
AT_IMAGE, AT_TEXT = f"/v1/models/{IMAGE}/predict", f"/v1/models/{TEXT}/predict"
WAYS: list[tuple[str, str, dict[str, Any]]] = [
    (IMAGE, "image/png", {"content": PICTURE, "headers": {"Content-Type": "image/png"}}),
    (IMAGE, "nothing said", {"content": PICTURE}),
    (IMAGE, "form", {"files": {"image": PICTURE}}),
    (IMAGE, "json", {"json": {"image": BASE64}}),
    (IMAGE, "json with URL", {"json": {"image": f"data:image/png;base64,{BASE64}"}}),
    (IMAGE, "instances", {"json": {"instances": [BASE64]}}),
    (TEXT, "text/plain", {"content": SENTENCE, "headers": {"Content-Type": "text/plain"}}),
    (TEXT, "form", {"files": {"text": (None, SENTENCE)}}),
    (TEXT, "file", {"files": {"file": SENTENCE.encode()}}),
    (TEXT, "json", {"json": {"text": SENTENCE}}),
    (TEXT, "instances", {"json": {"instances": [{"text": SENTENCE}]}}),
]


def plain(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (20, 20), grey).save(file, "png")
    return file.getvalue()


def probabilities(prediction: dict[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["probability"] for entry in prediction["top"]}


def of_image(encoded: bytes) -> Any:
    values = image_probabilities(encoded).tolist()
    return pytest.approx(dict(zip(IMAGE_LABELS, values, strict=True)), abs=RESIZED)


def of_text(text: str) -> Any:
    values = text_probabilities(text).tolist()
    return pytest.approx(dict(zip(TEXT_LABELS, values, strict=True)), abs=1e-5)


@pytest.mark.parametrize(("grey", "usual"), [(100, True), (255, False)])
async def test_what_is_unlike_the_training_pictures_is_told_so(
    client: httpx.AsyncClient, grey: int, usual: bool
) -> None:
    answer = await client.post(AT_IMAGE, content=plain(grey))
    assert answer.json()["predictions"][0]["in_distribution"] is usual


async def test_a_model_that_cannot_tell_says_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.post(AT_TEXT, json={"text": SENTENCE})
    assert "in_distribution" not in answer.json()["predictions"][0]


@pytest.mark.parametrize(("model", "way", "request_"), WAYS, ids=lambda value: str(value)[:20])
async def test_every_way_in_gives_the_networks_answer(
    client: httpx.AsyncClient, model: str, way: str, request_: dict[str, Any]
) -> None:
    response = await client.post(f"/v1/models/{model}/predict", **request_)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["model"], answer["version"]) == (model, "1")
    (prediction,) = answer["predictions"]
    expected = of_image(PICTURE) if model == IMAGE else of_text(SENTENCE)
    assert probabilities(prediction) == expected


async def test_instances_are_answered_in_order(client: httpx.AsyncClient) -> None:
    texts = [f"text {n}" for n in range(20)]
    response = await client.post(AT_TEXT, json={"instances": texts})
    found = [probabilities(prediction) for prediction in response.json()["predictions"]]
    assert found == [of_text(text) for text in texts]
    files = [("files", PICTURE), ("files", PHOTO), ("image", PICTURE)]
    response = await client.post(AT_IMAGE, files=files)
    found = [probabilities(prediction) for prediction in response.json()["predictions"]]
    assert found == [of_image(encoded) for encoded in (PICTURE, PHOTO, PICTURE)]


async def test_concurrent_clients_get_their_own_answers_in_shared_batches(
    client: httpx.AsyncClient,
) -> None:
    texts = [f"{n} is my text" for n in range(40)]
    responses = await asyncio.gather(*(client.post(AT_TEXT, json={"text": t}) for t in texts))
    found = [probabilities(response.json()["predictions"][0]) for response in responses]
    assert found == [of_text(text) for text in texts]
    assert max(int(response.headers["X-Batch-Size"]) for response in responses) > 1


async def test_a_prediction_tells_label_set_and_facts(client: httpx.AsyncClient) -> None:
    response = await client.post(AT_TEXT, json={"text": "ä" + "a" * LENGTH})
    (prediction,) = response.json()["predictions"]
    assert prediction["truncated"] is True
    assert prediction["unknown_characters"] == 1
    assert prediction["label"] == prediction["top"][0]["label"]
    assert prediction["set"] == [
        entry["label"] for entry in prediction["top"] if entry["probability"] >= 0.2
    ]


async def test_top_k_comes_by_query_body_or_form(client: httpx.AsyncClient) -> None:
    for request in (
        {"json": {"text": "a", "top_k": 2}},
        {"json": {"text": "a"}, "params": {"top_k": "2"}},
        {"files": {"text": (None, "a"), "top_k": (None, "2")}},
    ):
        response = await client.post(AT_TEXT, **request)
        assert len(response.json()["predictions"][0]["top"]) == 2


async def test_top_k_of_the_body_is_checked_beside_that_of_the_query(
    client: httpx.AsyncClient,
) -> None:
    async def asked(stated: int) -> httpx.Response:
        body = {"text": "a", "top_k": stated}
        return await client.post(AT_TEXT, json=body, params={"top_k": "2"})

    good, bad = await asked(1), await asked(0)
    assert len(good.json()["predictions"][0]["top"]) == 2
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/top_k")


async def test_top_k_of_the_body_is_no_null(client: httpx.AsyncClient) -> None:
    response = await client.post(AT_TEXT, json={"text": "a", "top_k": None})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/top_k")


@pytest.mark.parametrize("value", ["0", "4", "-1", "x", "1.5", "", "true", "٣"])
async def test_top_k_out_of_range_is_refused(client: httpx.AsyncClient, value: str) -> None:
    response = await client.post(AT_TEXT, json={"text": "a"}, params={"top_k": value})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "?top_k"
    assert "1 to 3" in response.json()["detail"]


async def test_an_unknown_query_parameter_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(AT_TEXT, json={"text": "a"}, params={"topk": "1"})
    assert response.status_code == 422
    assert "mean 'top_k'" in response.json()["detail"]


async def test_every_answer_says_where_its_time_went(client: httpx.AsyncClient) -> None:
    headers = (await client.post(AT_TEXT, json={"text": "a"})).headers
    spans = dict(entry.split(";dur=") for entry in headers["Server-Timing"].split(", "))
    assert spans.keys() == {"decode", "queue", "inference", "post", "total"}
    assert float(spans["inference"]) <= float(spans["total"])
    assert headers["X-Model-Name"] == TEXT
    assert headers["X-Model-Version"] == "1"
    assert headers["X-Batch-Size"] == "1"
    assert headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/livez", "/nothing", "/v1/models"):
        assert "total;dur=" in (await client.get(path)).headers["Server-Timing"]


async def test_a_request_id_is_kept_if_it_is_sane(client: httpx.AsyncClient) -> None:
    kept = await client.get("/livez", headers={"X-Request-ID": "my-id.1"})
    assert kept.headers["X-Request-ID"] == "my-id.1"
    made = await client.get("/nothing", headers={"X-Request-ID": "not sane"})
    assert made.headers["X-Request-ID"] == made.json()["request_id"] != "not sane"


async def test_a_version_can_be_named(client: httpx.AsyncClient) -> None:
    path = f"/v1/models/{TEXT}/versions"
    assert (await client.post(f"{path}/1/predict", json={"text": "a"})).status_code == 200
    missing = await client.post(f"{path}/2/predict", json={"text": "a"})
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")


async def test_the_wrong_instance_is_named(client: httpx.AsyncClient) -> None:
    response = await client.post(AT_IMAGE, json={"instances": [BASE64, "AAAA", BASE64]})
    (error,) = response.json()["errors"]
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media")
    assert (error["pointer"], error["code"]) == ("/instances/1", "unsupported_media")
    response = await client.post(AT_IMAGE, json={"instances": [BASE64, {"image": BASE64[:60]}]})
    (error,) = response.json()["errors"]
    assert (response.status_code, error["pointer"]) == (422, "/instances/1/image")


async def test_an_answer_after_the_deadline_is_none(client: httpx.AsyncClient) -> None:
    slow = {"json": {"text": SLOW * LENGTH}, "headers": {"X-Request-Timeout-Ms": "50"}}
    response = await client.post(AT_TEXT, **slow)  # type: ignore[arg-type]
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "9" * 400, ""])
async def test_a_deadline_must_be_milliseconds(client: httpx.AsyncClient, value: str) -> None:
    headers = {"X-Request-Timeout-Ms": value}
    response = await client.post(AT_TEXT, json={"text": "a"}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        (AT_TEXT, "X-Request-Timeout-Ms", 400),
        (AT_TEXT, "Content-Encoding", 415),
        (f"/v2/models/{TEXT}/infer", "Inference-Header-Content-Length", 400),
    ],
)
async def test_an_empty_header_is_not_an_absent_one(
    client: httpx.AsyncClient, path: str, header: str, status: int
) -> None:
    assert (await client.post(path, json={"text": "a"}, headers={header: ""})).status_code == status


class TestOverload:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"queue_capacity": 1, "max_batch_size": 1})

    async def test_who_finds_the_queue_full_is_refused_at_once(
        self, client: httpx.AsyncClient
    ) -> None:
        slow = [client.post(AT_TEXT, json={"text": SLOW * LENGTH}) for _ in range(4)]
        responses = await asyncio.gather(*slow)
        assert sorted(response.status_code for response in responses) == [200, 200, 429, 429]
        for response in responses:
            if response.status_code == 429:
                assert response.json()["code"] == "queue_full"
                assert int(response.headers["Retry-After"]) >= 1
        metrics = (await client.get("/metrics")).text
        assert (
            'convserve_rejected_total{model="tiny_text",reason="queue_full",version="1"} 2.0'
            in metrics
        )

    async def test_who_is_refused_is_not_even_read(self, client: httpx.AsyncClient) -> None:
        read: list[bytes] = []

        async def chunks() -> AsyncIterator[bytes]:
            read.append(b"a")
            yield b"a"

        slow = [
            asyncio.create_task(client.post(AT_TEXT, json={"text": SLOW * LENGTH}))
            for _ in range(2)
        ]
        waiting = 'convserve_queue_depth{model="tiny_text",version="1"} 1.0'
        async with asyncio.timeout(10):
            while waiting not in (await client.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        response = await client.post(AT_TEXT, content=chunks())
        assert (response.status_code, response.json()["code"]) == (429, "queue_full")
        assert read == []
        assert [(await task).status_code for task in slow] == [200, 200]


class TestLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_body_bytes": 1000, "max_instances": 2})

    async def test_a_large_body_is_refused_by_what_it_states(
        self, client: httpx.AsyncClient
    ) -> None:
        response = await client.post(AT_TEXT, json={"text": "a" * 1000})
        assert (response.status_code, response.json()["code"]) == (413, "input_too_large")
        assert "1,000 bytes" in response.json()["detail"]

    async def test_a_large_body_is_refused_while_it_comes(self, client: httpx.AsyncClient) -> None:
        async def chunks() -> Any:
            for _ in range(3):
                yield b"a" * 400

        response = await client.post(AT_TEXT, content=chunks())
        assert (response.status_code, response.json()["code"]) == (413, "input_too_large")

    async def test_many_instances_are_refused(self, client: httpx.AsyncClient) -> None:
        response = await client.post(AT_TEXT, json={"instances": ["a"] * 3})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
        assert "at most 2" in response.json()["detail"]


async def test_bodies_may_be_compressed(client: httpx.AsyncClient) -> None:
    plain = await client.post(AT_TEXT, content=b"Goal!", headers={"Content-Type": "text/plain"})
    for encoding, packed in (
        ("gzip", gzip.compress(b"Goal!")),
        ("deflate", zlib.compress(b"Goal!")),
    ):
        headers = {"Content-Encoding": encoding, "Content-Type": "text/plain"}
        response = await client.post(AT_TEXT, content=packed, headers=headers)
        assert response.json() == plain.json()


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"Goal!", 415),
        ("gzip", b"Goal!", 400),
        ("gzip", gzip.compress(b"Goal!")[:-4], 400),
        ("deflate", zlib.compress(b"Goal!") + b"more", 400),
        ("gzip", gzip.compress(bytes(2**24 + 1)), 413),
    ],
)
async def test_compressed_bodies_are_bounded_and_whole(
    client: httpx.AsyncClient, encoding: str, body: bytes, status: int
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "text/plain"}
    response = await client.post(AT_TEXT, content=body, headers=headers)
    assert response.status_code == status, response.text
    assert response.json()["detail"]
