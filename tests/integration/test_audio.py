"""Speech through the whole service: every way to send a sound, odd sounds, any batch mix."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from convserve.app import Application, create_app
from convserve.errors import DeadlineUnmeetable
from convserve.postprocess import transcription
from convserve.settings import Settings
from convserve_models import reference
from tests.artifacts import (
    AUDIO,
    AUDIO_STEPS,
    CEPSTRA,
    FRAME,
    LETTERS,
    RATE,
    build_audio,
    build_cepstra,
    letter_probabilities,
    npy,
    wav,
)

pytestmark = pytest.mark.anyio
PREDICT, INSTANCES = f"/v1/models/{AUDIO}/predict", f"/v1/models/{CEPSTRA}/predict"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    store = tmp_path_factory.mktemp("speech")
    build_audio(store)
    build_cepstra(store)
    return Settings(store=store, cores=1)


@pytest.fixture(scope="module")
async def app(settings: Settings) -> AsyncIterator[Application]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await app.repository.settled()
        yield app


@pytest.fixture(scope="module")
async def client(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def spoken(data: bytes) -> str:
    """The greedy transcript, by the training side's reading and numpy."""
    rows = letter_probabilities(reference.audio(data, AUDIO_STEPS), FRAME)
    path = rows.argmax(axis=1)
    kept = [b for a, b in zip([-1, *path], path, strict=False) if b != a and b > 0]
    return "".join(LETTERS[letter - 1] for letter in kept)


def transcripts(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [prediction["transcript"] for prediction in answer.json()["predictions"]]


async def test_raw_sound(client: httpx.AsyncClient) -> None:
    data = wav(0.3)
    for media in ("audio/wav", "audio/x-wav", "application/octet-stream"):
        answer = await client.post(PREDICT, content=data, headers={"Content-Type": media})
        assert transcripts(answer) == [spoken(data)] != [""]
    (prediction,) = answer.json()["predictions"]
    assert prediction["seconds"] == 0.3
    assert "".join(one["character"] for one in prediction["characters"]) == spoken(data)
    times = [(one["start"], one["end"]) for one in prediction["characters"]]
    assert times == sorted(times)
    assert all(0 <= start < end <= 0.3 for start, end in times)
    assert "alternatives" not in prediction


async def test_json_data_url_and_form(client: httpx.AsyncClient) -> None:
    data = wav(0.2, kind="FLAC")
    text = base64.b64encode(data).decode()
    bodies: list[dict[str, Any]] = [
        {"audio": text},
        {"audio": f"data:audio/flac;base64,{text}"},
        {"instances": [text]},
        {"instances": [{"audio": text}]},
    ]
    for body in bodies:
        assert transcripts(await client.post(PREDICT, json=body)) == [spoken(data)]
    for field in ("audio", "file", "files"):
        files = [(field, ("said.flac", data, "audio/flac"))] * 2
        assert transcripts(await client.post(PREDICT, files=files)) == [spoken(data)] * 2


async def test_alternatives(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{PREDICT}?top_k=3", content=wav(0.1))
    (prediction,) = answer.json()["predictions"]
    scores = [one["score"] for one in prediction["alternatives"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert prediction["transcript"] == prediction["alternatives"][0]["transcript"]
    assert prediction["score"] == scores[0]


async def test_a_beam_leaves_the_event_loop_free(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    search = transcription.beam

    def watched(*arguments: Any) -> Any:
        threads.add(threading.get_ident())
        return search(*arguments)

    monkeypatch.setattr(transcription, "beam", watched)
    answer = await client.post(f"{PREDICT}?top_k=1", content=wav(0.1))
    assert answer.status_code == 200, answer.text
    assert threads
    assert threading.get_ident() not in threads


async def test_the_next_is_expected_to_be_as_long_as_the_last(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of all sounds were let in at the door, decoded, and refused when they were to run."""
    model = app.repository.at_hand(AUDIO)
    assert model

    def as_long_as_it_sounds(key: Any, size: int) -> float:
        length: int = key[0][0]
        return size * max(length, 0) / RATE

    monkeypatch.setattr(model.cost, "predict", as_long_as_it_sounds)
    for seconds, refused in (0.05, False), (4.0, True), (0.05, False):
        answer = await client.post(PREDICT, content=wav(seconds, seed=1))
        assert answer.status_code == 200, answer.text
        late = model.refusal(asyncio.get_running_loop().time() + 0.9, coming=1)
        assert isinstance(late, DeadlineUnmeetable) == refused


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
async def test_widths(client: httpx.AsyncClient, subtype: str) -> None:
    data = wav(0.2, channels=2, subtype=subtype)
    assert transcripts(await client.post(PREDICT, content=data)) == [spoken(data)]


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
async def test_rates(client: httpx.AsyncClient, rate: int) -> None:
    data = wav(0.2, rate)
    assert transcripts(await client.post(PREDICT, content=data)) == [spoken(data)]


async def test_alone_or_in_any_mix(client: httpx.AsyncClient) -> None:
    """Lengths of one bucket and of several, together in one request and as requests at once."""
    random = np.random.default_rng(0)
    sounds = [wav(seconds, seed=n) for n, seconds in enumerate(random.uniform(0.01, 1.5, 24))]
    alone = [(await client.post(PREDICT, content=sound)).json() for sound in sounds]
    at_once = await asyncio.gather(*(client.post(PREDICT, content=sound) for sound in sounds))
    assert [answer.json() for answer in at_once] == alone
    assert max(int(answer.headers["x-batch-size"]) for answer in at_once) > 1
    files = [("files", ("s.wav", sound, "audio/wav")) for sound in sounds]
    together = (await client.post(PREDICT, files=files)).json()["predictions"]
    assert together == [answer["predictions"][0] for answer in alone]


async def test_silence(client: httpx.AsyncClient) -> None:
    data = bytearray(wav(1.0))
    data[44:] = bytes(len(data) - 44)
    answer = await client.post(PREDICT, content=bytes(data))
    assert answer.status_code == 200
    assert transcripts(answer) == [spoken(bytes(data))]


@pytest.mark.parametrize(
    ("body", "media", "status", "code", "told"),
    [
        (b"", "audio/wav", 422, "invalid_input", "empty"),
        (wav(0.2)[:500], "audio/wav", 422, "invalid_input", "truncated"),
        (wav(0.2, kind="FLAC")[:500], "audio/flac", 422, "invalid_input", "decoded"),
        (wav(0.2, kind="OGG")[:500], "audio/ogg", 422, "invalid_input", "decoded"),
        (wav(0.0), "audio/wav", 422, "invalid_input", "no samples"),
        (b"hello", "audio/wav", 415, "unsupported_media", "WAV, FLAC or OGG"),
        (wav(0.2), "image/png", 415, "unsupported_media", "this model takes audio"),
        (b"text", "text/plain", 415, "unsupported_media", "this model takes audio"),
        (wav(40), "audio/wav", 413, "input_too_large", "at most 30 s"),
        (b"RIFF" + bytes(10**7), "audio/wav", 422, "invalid_input", ""),
        (bytes(10**7), "audio/wav", 415, "unsupported_media", ""),
        (b'{"audio": "%%%"}', "application/json", 422, "invalid_input", "base64"),
        (b'{"image": "aaaa"}', "application/json", 422, "invalid_input", "takes audio"),
        (b'{"audio": 3}', "application/json", 422, "invalid_input", "string"),
    ],
    ids=range(14),
)
async def test_problems(
    client: httpx.AsyncClient, body: bytes, media: str, status: int, code: str, told: str
) -> None:
    answer = await client.post(PREDICT, content=body, headers={"Content-Type": media})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert told in problem["detail"]


async def test_ten_megabytes_of_a_short_sound(client: httpx.AsyncClient) -> None:
    data = wav(9.0, rate=192_000, channels=2, subtype="PCM_24")
    assert len(data) > 10**7
    assert transcripts(await client.post(PREDICT, content=data)) == [spoken(data)]


async def test_torchserves_route_answers_with_the_transcript(client: httpx.AsyncClient) -> None:
    data = wav(0.3)
    answer = await client.put(f"/predictions/{AUDIO}", content=data)
    assert answer.status_code == 200, answer.text
    assert [answer.json()] == transcripts(await client.post(PREDICT, content=data))


async def test_a_bad_instance_is_named(client: httpx.AsyncClient) -> None:
    good = base64.b64encode(wav(0.1)).decode()
    answer = await client.post(PREDICT, json={"instances": [good, "aaaa"]})
    assert answer.status_code == 415, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/instances/1"]


async def test_cepstra(client: httpx.AsyncClient) -> None:
    data = npy(np.random.default_rng(1).standard_normal((15, 3)).astype(np.float32))
    raw = await client.post(INSTANCES, content=data)
    text = base64.b64encode(data).decode()
    assert transcripts(raw) == transcripts(await client.post(INSTANCES, json={"cepstra": text}))
    assert transcripts(raw) != [""]
    refused = await client.post(INSTANCES, content=wav(0.1), headers={"Content-Type": "audio/wav"})
    assert refused.status_code == 415


async def test_a_changed_filter_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The goldens hold the resampling: with another kernel the model does not become ready."""
    from convserve.preprocess import audio
    from convserve.validation import validate

    build_audio(tmp_path)
    assert validate(Settings(cores=1), tmp_path)
    monkeypatch.setattr(audio, "CUTOFF", 0.8)
    audio._filter.cache_clear()
    try:
        assert not validate(Settings(cores=1), tmp_path)
    finally:
        audio._filter.cache_clear()
