"""The copy of a store that is elsewhere: it follows the original, and trusts digests only."""

import shutil
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convserve.app import create_app
from convserve.artifact import digests, load_artifact, read_manifest
from convserve.errors import InvalidArtifact
from convserve.mirror import Mirror, StoreUnreachable
from convserve.settings import Settings, load_settings
from tests.artifacts import IMAGE, explain_image


def content(root: Path) -> dict[str, bytes]:
    files = (f for f in root.rglob("*") if f.is_file() and f.name != "artifact.schema.json")
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def mirror(store: Path, tmp_path: Path) -> Mirror:
    return Mirror(store.as_uri(), tmp_path / "cache")


def test_the_copy_is_like_the_original(store: Path, mirror: Mirror) -> None:
    mirror.refresh()
    assert content(mirror.directory) == content(store)
    assert content(store)


def test_what_is_gone_is_gone_from_the_copy(store: Path, mirror: Mirror) -> None:
    mirror.refresh()
    gone, *_ = sorted(store.glob("*/*/"))
    shutil.rmtree(gone)
    (store / "store.json").unlink(missing_ok=True)
    mirror.refresh()
    assert content(mirror.directory) == content(store)


def test_a_file_with_the_stated_digest_is_not_fetched_again(store: Path, mirror: Mirror) -> None:
    mirror.refresh()
    path = sorted(store.glob("*/*/"))[0]
    graph = path / read_manifest(path).graphs.predict.file
    copied = mirror.directory / graph.relative_to(store)
    before = copied.stat().st_ino
    graph.write_bytes(b"corrupted since")
    later = Mirror(mirror.url, mirror.directory.parents[1])
    later.refresh()
    assert copied.stat().st_ino == before
    load_artifact(copied.parent)


def test_of_what_has_a_digest_nothing_is_fetched_again(store: Path, mirror: Mirror) -> None:
    explain_image(store / IMAGE / "1")
    mirror.refresh()
    path = mirror.directory / IMAGE / "1"
    files = [path / name for name, _ in digests(read_manifest(path))]
    assert path / "explain.onnx" in files
    before = [file.stat().st_ino for file in files]
    Mirror(mirror.url, mirror.directory.parents[1]).refresh()
    assert [file.stat().st_ino for file in files] == before


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_one_changed_byte_of_any_file_is_refused(
    data: st.DataObject, pristine_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("corrupt")
    store = Path(shutil.copytree(pristine_store, directory / "store"))
    path = data.draw(st.sampled_from(sorted(store.glob("*/*/"))))
    names = sorted({name for name, _ in digests(read_manifest(path))} | {"manifest.json"})
    file = path / data.draw(st.sampled_from(names))
    before = bytearray(file.read_bytes())
    before[data.draw(st.integers(0, len(before) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(before)
    mirror = Mirror(store.as_uri(), directory / "cache")
    mirror.refresh()
    with pytest.raises(InvalidArtifact, match="does not have the digest") as refusal:
        load_artifact(mirror.directory / path.relative_to(store))
    assert file.name in str(refusal.value)


def test_a_mended_object_is_fetched(store: Path, mirror: Mirror) -> None:
    path = sorted(store.glob("*/*/"))[0]
    graph = path / read_manifest(path).graphs.predict.file
    good = graph.read_bytes()
    graph.write_bytes(b"half of it")
    mirror.refresh()
    graph.write_bytes(good)
    mirror.refresh()
    load_artifact(mirror.directory / path.relative_to(store))


def test_names_cannot_lead_out_of_the_copy(store: Path, mirror: Mirror) -> None:
    path = sorted(store.glob("*/*/"))[0]
    (path / ".hidden").write_text("x")
    (path / "a name").write_text("x")
    (store / "stray").write_text("x")
    mirror.refresh()
    assert not {"stray"} & content(mirror.directory).keys()
    assert not [name for name in content(mirror.directory) if ".hidden" in name or " " in name]


@pytest.mark.anyio
async def test_without_the_original_its_copy_is_served(store: Path, tmp_path: Path) -> None:
    configured = Settings(store=store.as_uri(), cache=tmp_path / "cache", cores=1)
    Mirror(store.as_uri(), tmp_path / "cache").refresh()
    shutil.move(store, tmp_path / "moved")
    assert await readiness(configured) == 200


@pytest.mark.anyio
async def test_a_store_that_is_away_at_the_start_is_taken_up_later(
    store: Path, tmp_path: Path
) -> None:
    away = Path(shutil.move(store, tmp_path / "away"))
    configured = Settings(store=store.as_uri(), cache=tmp_path / "cache", cores=1, poll_seconds=0)
    app = create_app(configured)
    async with app.router.lifespan_context(app), client_of(app) as client:
        await app.repository.settled()
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert f"the store {store.as_uri()} cannot be read" in answer.json()["detail"]
        shutil.move(away, store)
        await app.repository.refresh()
        assert (await client.get("/readyz")).status_code == 200


def test_an_empty_store_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreUnreachable, match="no artifact"):
        Mirror((tmp_path / "empty").as_uri(), tmp_path / "cache").refresh()


def test_an_address_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("s3://bucket/models", "gs://bucket", "file:///srv/models"):
        monkeypatch.setenv("CONVSERVE_STORE", address)
        assert load_settings().store == address
    monkeypatch.setenv("CONVSERVE_STORE", "models/store")
    assert load_settings().store == Path("models/store")


def client_of(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def readiness(configured: Settings) -> int:
    app = create_app(configured)
    async with app.router.lifespan_context(app), client_of(app) as client:
        await app.repository.settled()
        return (await client.get("/readyz")).status_code
