"""The playground's files and the samples it offers; what it does is tested in a browser."""

import hashlib
import re
from pathlib import Path

import httpx
import pytest

from convserve.api import playground
from tests.artifacts import IMAGE, TEXT

pytestmark = pytest.mark.anyio
ACCEPT = {"Accept": "text/html,*/*"}
REFERENCE = re.compile(r'(?:src|href)="(static/[^"]+)"|from "\./([^"]+)"')
LIMIT = 300_000


async def test_all_it_refers_to_is_there_and_small(client: httpx.AsyncClient) -> None:
    seen, todo, size = set(), {"/"}, 0
    while todo:
        path = todo.pop()
        seen.add(path)
        answer = await client.get(path, headers=ACCEPT)
        assert answer.status_code == 200, path
        size += len(answer.content)
        found = {one or f"static/{two}" for one, two in REFERENCE.findall(answer.text)}
        todo |= {f"/{name}" for name in found} - seen
    unused = {f"/static/{name}" for name in playground.names()} - seen
    assert unused == {"/static/index.html", "/static/recorder.js"}
    assert size < LIMIT


@pytest.mark.parametrize("name", sorted(playground.names()))
async def test_nothing_is_remote_or_inline(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/static/{name}")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
    assert not re.search(r"<script>|<style|style=|onclick=|innerHTML|eval\(", answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_page_comes_to_browsers_only(client: httpx.AsyncClient) -> None:
    assert (await client.get("/", headers=ACCEPT)).text.startswith("<!doctype html>")
    assert (await client.get("/")).json()["service"] == "convserve"


async def test_an_unchanged_file_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/static/main.js")
    again = await client.get("/static/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["nothing.js", "..%2fplayground.py", "%2fetc%2fpasswd", ""])
async def test_no_other_file_is_sent(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/static/{path}")).status_code == 404


async def test_samples_are_those_of_the_manifest(client: httpx.AsyncClient) -> None:
    for name in (IMAGE, TEXT):
        card = (await client.get(f"/v1/models/{name}")).json()
        for golden in card["manifest"]["goldens"]:
            sample = Path(golden["input"]).name
            answer = await client.get(f"/v1/models/{name}/versions/1/samples/{sample}")
            assert hashlib.sha256(answer.content).hexdigest() == golden["sha256"]
            assert answer.headers["Content-Type"].startswith(golden["media_type"])
            assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["1/samples/model.onnx", "1/samples/manifest.json", "2/samples/native.png"]
)
async def test_nothing_else_of_the_store_is_sent(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/v1/models/{IMAGE}/versions/{path}")).status_code == 404
