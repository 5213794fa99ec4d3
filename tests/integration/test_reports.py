"""One log line for each request that failed or came late, with all that explains it."""

import logging
from pathlib import Path

import httpx
import pytest

from convserve.settings import Settings
from tests.artifacts import LENGTH, SLOW, TEXT

pytestmark = pytest.mark.anyio
AT_TEXT = f"/v1/models/{TEXT}/predict"
ENVELOPE = "convserve.api.middleware"


@pytest.fixture
def settings(pristine_store: Path) -> Settings:
    return Settings(store=pristine_store, cores=1, late_ms=1)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, dict[str, object]]]:
    found = [record for record in caplog.records if record.name == ENVELOPE]
    return [(record.levelno, {"said": record.getMessage(), **vars(record)}) for record in found]


async def test_who_comes_late_is_told_with_model_batch_and_spans(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.post(AT_TEXT, json={"text": SLOW * LENGTH})
    assert answer.status_code == 200
    ((level, line),) = lines(caplog)
    assert (level, line["said"], line["status"]) == (logging.WARNING, "late", 200)
    assert (line["model"], line["version"], line["batch_size"]) == (TEXT, "1", 1)
    spans = line["spans"]
    assert isinstance(spans, dict)
    assert set(spans) == {"decode", "queue", "inference", "post"}
    assert max(spans, key=spans.__getitem__) == "inference"


async def test_who_gets_no_answer_is_told(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    hurry = {"X-Request-Timeout-Ms": "20"}
    slow = {"instances": [SLOW * LENGTH] * 8}
    answer = await client.post(AT_TEXT, json=slow, headers=hurry)
    assert answer.status_code == 504
    ((level, line),) = lines(caplog)
    assert (level, line["said"], line["status"]) == (logging.WARNING, "failed", 504)
    assert line["model"] == TEXT


async def test_refusals_and_probes_are_no_failures(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get("/readyz")
    await client.post("/v1/models/nobody/predict", json={"text": "a"})
    assert lines(caplog) == []
