"""Everything that is only read: catalogue, probes, metrics, problems, pages."""

import re

import httpx
import pytest

from convserve.api.problems import PROBLEMS
from convserve.app import Application
from convserve.errors import ConvserveError, InvalidArtifact
from convserve.repository import Repository
from tests.artifacts import IMAGE, TEXT, picture

pytestmark = pytest.mark.anyio


def leaves(cls: type[ConvserveError]) -> set[type[ConvserveError]]:
    below = cls.__subclasses__()
    return set().union(*map(leaves, below)) if below else {cls}


async def test_the_catalogue_lists_the_models(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["models"]
    assert [model["name"] for model in models] == [IMAGE, TEXT]
    for model in models:
        assert model["state"] == "ready"
        assert model["required"] is True
        assert model["versions"] == [{"version": "1", "state": "ready", "reason": None}]


async def test_the_card_holds_the_manifest(client: httpx.AsyncClient) -> None:
    card = (await client.get(f"/v1/models/{IMAGE}")).json()
    assert card["modality"] == "image"
    assert card["manifest"]["preprocess"]["steps"][1]["shorter"] == 8
    await client.post(f"/v1/models/{IMAGE}/predict", content=picture(9, 9))
    (*_, largest) = (await client.get(f"/v1/models/{IMAGE}")).json()["cost"]
    assert largest["shapes"] == [[8, 8, 3]]
    assert largest["seconds"] > 0
    assert largest["n"] > 0
    missing = await client.get("/v1/models/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v2/health/live", "/livez"])
async def test_live(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).json() == {"live": True}


@pytest.mark.parametrize("path", ["/v2/health/ready", "/readyz", "/healthz"])
async def test_ready_until_it_drains(
    app: Application, client: httpx.AsyncClient, path: str
) -> None:
    assert (await client.get(path)).json() == {"ready": True, "live": True}
    repository: Repository = app.repository
    repository.begin_drain()
    response = await client.get(path)
    assert response.status_code == 503
    assert "shutting down" in response.json()["error"]  # what all protocols call it
    assert int(response.headers["Retry-After"]) >= 1
    assert (await client.get("/livez")).status_code == 200
    answer = await client.post(f"/v1/models/{TEXT}/predict", json={"text": "a"})
    assert answer.status_code == 200


async def test_metrics_count_requests_by_model_and_status(client: httpx.AsyncClient) -> None:
    for text in ("a", "b", ""):
        await client.post(f"/v1/models/{TEXT}/predict", json={"text": text})
    response = await client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    for line in (
        f'convserve_requests_total{{model="{TEXT}",status="200",version="1"}} 2.0',
        f'convserve_requests_total{{model="{TEXT}",status="422",version="1"}} 1.0',
        f'convserve_inference_duration_seconds_count{{model="{TEXT}",version="1"}} 2.0',
        f'convserve_queue_duration_seconds_count{{model="{TEXT}",version="1"}} 2.0',
        f'convserve_batch_size_sum{{model="{TEXT}",version="1"}} 2.0',
        "convserve_in_flight_bytes 0.0",
        "convserve_cpu_limit_cores 1.0",
    ):
        assert line in response.text
    assert re.search(r"^convserve_cfs_throttled_seconds_total \d", response.text, re.MULTILINE)
    info = rf'convserve_model_info{{graph="float",model="{TEXT}",sha256="[0-9a-f]{{64}}"'
    assert re.search(info, response.text)


async def test_unknown_models_leave_no_trace_in_the_metrics(client: httpx.AsyncClient) -> None:
    await client.post("/v1/models/made_up/predict", json={"text": "a"})
    assert "made_up" not in (await client.get("/metrics")).text


def test_every_error_has_a_status_but_those_of_the_operator() -> None:
    codes = {error.code for error in leaves(ConvserveError)} - {InvalidArtifact.code}
    assert codes < PROBLEMS.keys()
    assert PROBLEMS.keys() - codes == {"not_found", "method_not_allowed", "internal_error"}


@pytest.mark.parametrize("code", PROBLEMS)
async def test_the_type_of_a_problem_is_a_page(client: httpx.AsyncClient, code: str) -> None:
    page = await client.get(f"/problems/{code}", headers={"Accept": "text/html"})
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "Cause" in page.text
    assert "Remedy" in page.text
    plain = (await client.get(f"/problems/{code}")).json()
    assert (plain["code"], plain["status"]) == (code, PROBLEMS[code].status)
    assert plain["remedy"]


async def test_a_problem_body_is_complete(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/v1/models/{TEXT}/predict", json={"txt": "a"})
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body == {
        "type": "/problems/invalid_input",
        "title": PROBLEMS["invalid_input"].title,
        "status": 422,
        "detail": body["errors"][0]["detail"],
        "instance": f"/v1/models/{TEXT}/predict",
        "code": "invalid_input",
        "request_id": response.headers["X-Request-ID"],
        "errors": [{"pointer": "/txt", "code": "invalid_input", "detail": body["error"]}],
        "error": body["detail"],
    }
    assert (await client.get(body["type"])).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", f"/v1/models/{TEXT}/predict", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    client: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"] == allow


@pytest.mark.parametrize("path", ["/nothing", "/livez/", "/problems/nothing", "/v1", "/V1/models"])
async def test_an_unknown_path_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_a_defect_is_answered_without_its_details(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(app, "repository")
        response = await client.get("/v1/models")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "repository" not in response.text
    assert "Traceback" not in response.text


async def test_the_docs_need_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs", headers={"Accept": "text/html,*/*"})
    assert page.headers["Content-Type"].startswith("text/html")
    assert not re.search(r"<script|<link|src=|https?://", page.text)


async def test_the_index_links_to_what_exists(client: httpx.AsyncClient) -> None:
    index = (await client.get("/")).json()
    for name in ("models", "docs", "openapi", "metrics"):
        assert (await client.get(index[name])).status_code == 200


async def test_behind_a_prefix_links_and_types_carry_it(app: Application) -> None:
    transport = httpx.ASGITransport(app, root_path="/cnn")
    async with httpx.AsyncClient(transport=transport, base_url="http://test/cnn") as client:
        assert (await client.get("/")).json()["docs"] == "/cnn/docs"
        assert (await client.get("/nothing")).json()["type"] == "/cnn/problems/not_found"
        assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/cnn"}]
