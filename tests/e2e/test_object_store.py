"""A model store in S3: a real server on loopback, a real service that reads from it."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.process import (
    ROOT,
    STORE,
    Server,
    await_ready,
    free_port,
    goldens,
    predicted,
    serving,
)

pytestmark = pytest.mark.object_store

BIN = ROOT / ".venv" / "store" / "bin"
MODEL = "all_cnn_cifar10"
# The server wants to be told who deletes, and believes it.
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3 server and what a client needs to reach it."""

    client: httpx.Client
    name: str

    def put(self, key: str, body: bytes) -> None:
        self.client.put(f"/{self.name}/{key}", content=body).raise_for_status()

    def delete(self, key: str) -> None:
        self.client.delete(f"/{self.name}/{key}").raise_for_status()

    def variables(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": str(self.client.base_url),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
            "CONVSERVE_STORE": f"s3://{self.name}/models",
            "CONVSERVE_POLL_SECONDS": "0.5",
        }


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yield a client of an S3 server that ends with the module."""
    port = free_port()
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    command = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (
        log,
        httpx.Client(base_url=url, headers=SIGNED, trust_env=False) as client,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            until(lambda: _answers(client), "the S3 server answers")
            yield client
        finally:
            process.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def bucket(s3: httpx.Client, request: pytest.FixtureRequest) -> Bucket:
    """Return a bucket that holds the shipped store under `models/`."""
    bucket = Bucket(s3, request.node.name.replace("_", "-")[:60].strip("-"))
    s3.put(f"/{bucket.name}").raise_for_status()
    for file in STORE.rglob("*"):
        if file.is_file():
            bucket.put(f"models/{file.relative_to(STORE).as_posix()}", file.read_bytes())
    return bucket


def served(bucket: Bucket, tmp_path: Path, **other: str) -> AbstractContextManager[Server]:
    """Serve what the bucket holds; `other` variables go before the bucket's."""
    environment = bucket.variables() | {"CONVSERVE_CACHE": str(tmp_path / "cache")} | other
    command = [str(BIN / "convserve"), "serve"]
    return serving(command, cwd=tmp_path, log=tmp_path / "log", environment=environment)


def reason(server: Server) -> str:
    """Say why the service is not ready, nothing if it is."""
    try:
        answer = server.client.get("/readyz")
    except httpx.TransportError:
        return "it is starting"
    return "" if answer.status_code == 200 else str(answer.json()["detail"])


def test_it_is_served_and_followed(bucket: Bucket, tmp_path: Path) -> None:
    with served(bucket, tmp_path) as server:
        await_ready(server.client)
        for golden in goldens():
            assert predicted(server.client, golden) in golden.answers
        other = "char_cnn_ag_news"
        for file in (STORE / other / "1").rglob("*"):
            if file.is_file():
                bucket.delete(f"models/{other}/1/{file.relative_to(STORE / other / '1')}")
        until(lambda: other in reason(server), "the service notices what is gone")


def test_a_corrupted_object_is_refused_until_it_is_mended(bucket: Bucket, tmp_path: Path) -> None:
    key = f"models/{MODEL}/1/model.onnx"
    graph = (STORE / MODEL / "1" / "model.onnx").read_bytes()
    bucket.put(key, graph[:-1] + bytes([graph[-1] ^ 1]))
    with served(bucket, tmp_path) as server:
        until(lambda: "does not have the digest" in reason(server), "it is refused")
        assert "model.onnx" in reason(server)
        bucket.put(key, graph)
        until(lambda: not reason(server), "it is taken up once it is mended")


def test_a_copy_serves_on_when_the_store_is_away(bucket: Bucket, tmp_path: Path) -> None:
    with served(bucket, tmp_path) as server:
        await_ready(server.client)
    nowhere = f"http://127.0.0.1:{free_port()}"
    with served(bucket, tmp_path, AWS_ENDPOINT_URL=nowhere) as server:
        await_ready(server.client)
        assert predicted(server.client, goldens()[0]) in goldens()[0].answers
