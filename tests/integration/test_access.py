"""Keys, management, origins: who may do what, over the whole stack but the sockets."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from convserve.api import routes
from convserve.app import create_app
from convserve.server import _warn_if_open
from convserve.settings import InvalidSettings, Settings, load_settings
from tests.artifacts import SLOW, TEXT, build_text
from tests.e2e import process
from tests.integration.conftest import command

pytestmark = pytest.mark.anyio
INFERENCE, MANAGEMENT = "inference-key-12345", "management-key-1234"
OTHER, WRONG = "another-key-1234567", "a-wrong-key-of-mine"
PREDICT = f"/v1/models/{TEXT}/predict"
TEXTUAL = {"Content-Type": "text/plain"}
TABLE = [pytest.param(entry, id=f"{entry.method} {entry.path}") for entry in routes.TABLE]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def path_of(entry: Any) -> str:
    path: str = entry.path.format(
        name=TEXT, version="1", code="not_found", tag="latest", file="index.html", sample="a.txt"
    )
    return path


@asynccontextmanager
async def serving(store: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    given = {"store": store, "cores": 1, "measure_seconds": 0, "poll_seconds": 0, **settings}
    app = create_app(Settings(**given))
    async with app.router.lifespan_context(app):
        await app.repository.settled()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
async def keyed(pristine_store: Path) -> AsyncIterator[httpx.AsyncClient]:
    hashed = hashlib.sha256(MANAGEMENT.encode()).hexdigest()
    async with serving(
        pristine_store,
        inference_keys=f"app={INFERENCE}",
        management_keys=f"operator=sha256:{hashed}",
    ) as client:
        yield client


@pytest.mark.parametrize("entry", TABLE)
async def test_every_route_asks_for_the_key_of_its_right(
    keyed: httpx.AsyncClient, entry: Any
) -> None:
    async def status(headers: dict[str, str]) -> int:
        response = await keyed.request(entry.method, path_of(entry), headers=headers)
        if response.status_code == 401:
            assert response.headers["WWW-Authenticate"] == "Bearer"
        return response.status_code

    if entry.right == "public":
        assert await status({}) not in {401, 403}
        return
    own, other = (INFERENCE, MANAGEMENT) if entry.right == "inference" else (MANAGEMENT, INFERENCE)
    assert await status({}) == 401
    assert await status(bearer("x" * 20)) == 401
    assert await status({"X-API-Key": own[:-1]}) == 401
    assert await status(bearer(other)) == 403
    index = (await keyed.post("/v2/repository/index", headers=bearer(INFERENCE))).json()
    assert {entry["state"] for entry in index} == {"READY"}  # nothing came of what was refused
    assert await status(bearer(own)) not in {401, 403}
    assert await status({"X-API-Key": own}) not in {401, 403}
    if entry.right == "management":  # leave it as it was
        await keyed.post(f"/v2/repository/models/{TEXT}/load", headers=bearer(own))


def test_all_that_loads_or_unloads_is_management() -> None:
    management = [entry.path for entry in routes.TABLE if entry.right == "management"]
    assert len(management) == 2
    assert management == [entry.path for entry in routes.TABLE if entry.path.endswith("load")]


async def test_probes_are_never_behind_a_key() -> None:
    public = {entry.path for entry in routes.TABLE if entry.right == "public"}
    assert {"/livez", "/readyz", "/healthz", "/ping", "/v2/health/live"} <= public
    assert not {path for path in public if "{name}" in path}


async def test_management_is_off_without_a_key_of_its_own(pristine_store: Path) -> None:
    async with serving(pristine_store, inference_keys=f"app={INFERENCE}") as client:
        for verb in ("load", "unload"):
            response = await client.post(
                f"/v2/repository/models/{TEXT}/{verb}", headers=bearer(INFERENCE)
            )
            assert response.status_code == 403
            assert "CONVSERVE_MANAGEMENT_KEYS" in response.json()["error"]


async def test_models_are_unloaded_and_loaded_over_http(store: Path) -> None:
    async with serving(store, management_keys=f"operator={MANAGEMENT}") as client:
        key = bearer(MANAGEMENT)
        await client.post(f"/v2/repository/models/{TEXT}/unload", headers=key)
        refused = await client.post(PREDICT, content=b"goal", headers=TEXTUAL)
        assert refused.status_code == 503
        index = (await client.post("/v2/repository/index")).json()
        assert {"name": TEXT, "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"} in index
        build_text(store, "2")
        loaded = await client.post(f"/v2/repository/models/{TEXT}/load", headers=key)
        assert loaded.status_code == 200, loaded.text
        answer = await client.post(PREDICT, content=b"goal", headers=TEXTUAL)
        assert answer.json()["version"] == "2"


async def test_tags_name_versions(store: Path) -> None:
    build_text(store, "2")
    async with serving(store, tags=f"{TEXT}:stable=1") as client:
        for tag, version in (("stable", "1"), ("latest", "2")):
            path = f"/v1/models/{TEXT}/tags/{tag}/predict"
            answer = await client.post(path, content=b"goal", headers=TEXTUAL)
            assert answer.json()["version"] == version
        missing = await client.post(f"/v1/models/{TEXT}/tags/other/predict", content=b"goal")
        assert missing.status_code == 404
        assert "it has latest, stable" in missing.json()["detail"]


async def test_the_limits_of_a_key_hold_under_concurrency(pristine_store: Path) -> None:
    async with serving(
        pristine_store, inference_keys=f"app={INFERENCE}", key_concurrency=2
    ) as client:
        headers = TEXTUAL | bearer(INFERENCE)
        answers = await asyncio.gather(
            *(client.post(PREDICT, content=SLOW.encode(), headers=headers) for _ in range(20))
        )
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) == 2
        assert statuses.count(429) == 18
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["code"] == "rate_limited"
        assert int(refused.headers["Retry-After"]) >= 1
        again = await client.post(PREDICT, content=b"goal", headers=headers)
        assert again.status_code == 200


async def test_a_key_s_limit_is_no_other_key_s_and_ends_with_its_requests(
    pristine_store: Path,
) -> None:
    keys = f"app={INFERENCE}, other={OTHER}"
    async with serving(pristine_store, inference_keys=keys, key_concurrency=2) as client:

        async def status(key: str, text: str = "goal") -> int:
            headers = TEXTUAL | bearer(key)
            return (await client.post(PREDICT, content=text, headers=headers)).status_code

        for _ in range(3):
            running = [asyncio.create_task(status(INFERENCE, 8 * SLOW)) for _ in range(2)]
            for _ in range(100):  # until they are in: no step of theirs waits for more than this
                await asyncio.sleep(0)
            assert await status(INFERENCE) == 429
            assert await status(OTHER) == 200
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        again = await asyncio.gather(*(status(INFERENCE) for _ in range(2)))
        assert again == [200, 200]


async def test_the_rate_of_a_key_holds_under_concurrency(pristine_store: Path) -> None:
    async with serving(
        pristine_store, inference_keys=f"app={INFERENCE}", key_requests_per_second=0.01
    ) as client:
        headers = TEXTUAL | bearer(INFERENCE)
        answers = await asyncio.gather(
            *(client.post(PREDICT, content=b"goal", headers=headers) for _ in range(10))
        )
        assert sorted(answer.status_code for answer in answers) == [200] + [429] * 9


async def test_keys_are_never_logged_nor_told(
    keyed: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for key in (INFERENCE, MANAGEMENT, WRONG):
        for headers in (bearer(key), {"X-API-Key": key}):
            response = await keyed.post(PREDICT, content=b"", headers=TEXTUAL | headers)
            assert key not in response.text + str(response.headers)
    assert "answered" in caplog.text
    for key in (INFERENCE, MANAGEMENT, WRONG):
        assert key not in caplog.text + str([vars(record) for record in caplog.records])


def test_a_server_that_logs_everything_writes_no_key(pristine_store: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {
        "CONVSERVE_INFERENCE_KEYS": f"app={INFERENCE}",
        "CONVSERVE_MANAGEMENT_KEYS": f"operator={MANAGEMENT}",
        "CONVSERVE_LOG_LEVEL": "debug",
    }
    served = process.serving(
        command(pristine_store), cwd=tmp_path, log=log, environment=environment
    )
    with served as server:
        process.await_ready(server.client)
        for key in (INFERENCE, MANAGEMENT, WRONG):
            for path in (PREDICT, f"/v2/repository/models/{TEXT}/load", "/nowhere"):
                for headers in (bearer(key), {"X-API-Key": key}, {"Authorization": key}):
                    server.client.post(path, content=b"\xff", headers=headers)
    told = log.read_text()
    assert "/nowhere" in told
    for key in (INFERENCE, MANAGEMENT, WRONG):
        assert key not in told
        assert hashlib.sha256(key.encode()).hexdigest() not in told


def test_a_key_that_cannot_be_used_is_told_without_quoting_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVSERVE_INFERENCE_KEYS", f"{INFERENCE}, a=short")
    with pytest.raises(InvalidSettings, match="inference_keys = … ") as caught:
        load_settings()
    assert INFERENCE not in str(caught.value)
    assert "short" not in str(caught.value).replace("shorter", "")


def test_keys_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"app={INFERENCE}\nother={MANAGEMENT}\n")
    monkeypatch.setenv("CONVSERVE_INFERENCE_KEYS_FILE", str(file))
    assert [key.get_secret_value() for key in load_settings().inference_keys] == [
        f"app={INFERENCE}",
        f"other={MANAGEMENT}",
    ]
    monkeypatch.setenv("CONVSERVE_INFERENCE_KEYS_FILE", str(tmp_path / "missing"))
    with pytest.raises(InvalidSettings, match="cannot be read"):
        load_settings()


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("10.1.2.3", "", True),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("0.0.0.0", f"app={INFERENCE}", False),
    ],
)
def test_listening_to_everybody_without_a_key_is_warned_of(
    caplog: pytest.LogCaptureFixture, host: str, keys: str, warned: bool
) -> None:
    given: Any = {"inference_keys": keys} if keys else {}
    _warn_if_open(Settings(host=host, **given))
    assert ("without keys" in caplog.text) == warned


async def test_nothing_stands_before_the_handlers_without_keys(pristine_store: Path) -> None:
    from convserve.api.access import Access

    access = Access(Settings(store=pristine_store))
    for entry in routes.TABLE:
        guarded = access.guard(entry.handler, entry.right)
        assert (guarded is entry.handler) == (entry.right != "management")


async def test_pages_elsewhere_may_ask_only_if_their_origin_is_named(pristine_store: Path) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    async with serving(pristine_store, cors_origins="https://app.example") as client:
        preflight = await client.options(PREDICT, headers=asked)
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
        wrong = await client.options(PREDICT, headers=asked | {"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in wrong.headers
        failed = await client.post("/v2/nothing", headers={"Origin": "https://app.example"})
        assert failed.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "X-Request-ID" in failed.headers["Access-Control-Expose-Headers"]
    async with serving(pristine_store) as client:
        answer = await client.post(PREDICT, content=b"goal", headers=TEXTUAL | asked)
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/docs", "/problems/not_found"])
async def test_pages_may_not_be_framed_nor_run_foreign_scripts(
    pristine_store: Path, path: str
) -> None:
    async with serving(pristine_store) as client:
        page = await client.get(path, headers={"Accept": "text/html"})
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
