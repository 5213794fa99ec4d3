"""Artifacts come, change and go while the service runs."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from convserve.errors import ModelNotFound, ModelNotReady
from convserve.repository import Repository
from convserve.settings import Settings
from convserve.telemetry import Telemetry, Trace
from tests.artifacts import IMAGE, SLOW, TEXT, build_text, edit
from tests.unit.service.batching import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(store: Path, *models: str) -> AsyncIterator[Repository]:
    settings = Settings(store=store, models=models, cores=1, measure_seconds=0, poll_seconds=0)
    repository = Repository(settings, Telemetry())
    await repository.start()
    await repository.settled()
    yield repository
    await repository.close()


async def latest(repository: Repository, name: str = TEXT) -> str:
    return (await repository.get(name)).version


async def test_a_new_version_is_verified_before_it_is_the_latest(store: Path) -> None:
    async with opened(store) as repository:
        build_text(store, "2")
        assert await latest(repository) == "1"
        await repository.refresh()
        assert await latest(repository) == "2"
        assert (await repository.get(TEXT, "1")).version == "1"
        repository.check_ready()


async def test_who_uses_the_old_one_finishes_with_it(store: Path) -> None:
    async with opened(store) as repository:
        old = await repository.get(TEXT)
        with old.in_use:
            edit(store / TEXT / "1", lambda manifest: manifest.update(title="another"))
            await repository.refresh()
            new = await repository.get(TEXT)
            assert new is not old
            assert new.artifact.manifest.title == "another"
            for model in (old, new):
                with repository.memory.hold() as hold:
                    prepared = await model.prepare(b"goal", Trace("id"), hold)
                assert await model.infer(prepared, Trace("id"), top_k=1)
        repository.check_ready()


BREAKAGES = {
    "the graph is half-written": lambda path: (path / "model.onnx").write_bytes(b"half"),
    "the manifest is missing": lambda path: (path / "manifest.json").unlink(),
    "the manifest is not signed": lambda path: (path / "manifest.sha256").unlink(),
    "a golden is wrong": lambda path: edit(
        path, lambda manifest: manifest["goldens"][0]["expected"].update(world=0.0, sports=1.0)
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_corrupt_version_never_serves(store: Path, breakage: str) -> None:
    async with opened(store) as repository:
        BREAKAGES[breakage](build_text(store, "2"))
        await repository.refresh()
        assert await latest(repository) == "1"
        repository.check_ready()
        entry = repository.entries.find(TEXT, "2")
        assert entry.state == "failed"
        assert entry.fault
        with pytest.raises(ModelNotReady):
            await repository.get(TEXT, "2")
        shutil.rmtree(entry.path)
        build_text(store, "2")
        await repository.refresh()
        assert await latest(repository) == "2"


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_version_that_becomes_corrupt_stays_as_it_was_loaded(
    store: Path, breakage: str
) -> None:
    async with opened(store) as repository:
        BREAKAGES[breakage](store / TEXT / "1")
        await repository.refresh()
        await repository.refresh()
        assert await latest(repository) == "1"
        repository.check_ready()


async def test_what_is_still_being_written_is_left_for_later(store: Path) -> None:
    async with opened(store) as repository:
        path = build_text(store, "2")
        await repository.refresh(patient=True)
        assert await latest(repository) == "1"
        (path / "more").write_bytes(b"")
        await repository.refresh(patient=True)
        assert await latest(repository) == "1"
        await repository.refresh(patient=True)
        assert await latest(repository) == "2"


async def test_a_version_that_is_removed_serves_no_more(store: Path) -> None:
    async with opened(store) as repository:
        build_text(store, "2")
        await repository.refresh()
        shutil.rmtree(store / TEXT / "2")
        await repository.refresh()
        assert await latest(repository) == "1"
        with pytest.raises(ModelNotFound):
            await repository.get(TEXT, "2")
        shutil.rmtree(store / IMAGE)
        await repository.refresh()
        with pytest.raises(ModelNotFound):
            await repository.get(IMAGE)


async def test_a_model_that_arrives_is_loaded_when_it_is_asked(tmp_path: Path) -> None:
    async with opened(tmp_path) as repository:
        with pytest.raises(ModelNotReady):
            repository.check_ready()
        build_text(tmp_path)
        await repository.refresh()
        repository.check_ready()
        assert await latest(repository) == "1"


async def test_unloaded_by_hand_it_stays_so_until_it_is_loaded_by_hand(store: Path) -> None:
    async with opened(store) as repository:
        await repository.unload(TEXT)
        assert repository.entries.find(TEXT).state == "unloaded"
        with pytest.raises(ModelNotReady, match="was unloaded"):
            await repository.get(TEXT)
        repository.check_ready()
        build_text(store, "2")
        await repository.refresh()
        with pytest.raises(ModelNotReady, match="was unloaded"):
            await repository.get(TEXT)
        await repository.load(TEXT)
        assert await latest(repository) == "2"
        with pytest.raises(ModelNotFound):
            await repository.unload("nothing")
        with pytest.raises(ModelNotFound):
            await repository.load("nothing")


async def test_loading_by_hand_tells_why_it_failed(store: Path) -> None:
    async with opened(store) as repository:
        (build_text(store, "2") / "model.onnx").write_bytes(b"half")
        with pytest.raises(ModelNotReady, match=r"2 is not served: .*model\.onnx"):
            await repository.load(TEXT)
        assert await latest(repository) == "1"


async def test_reloading_under_load_fails_nobody(store: Path) -> None:
    async with opened(store) as repository:
        done, answers = asyncio.Event(), []

        async def ask() -> None:
            while not done.is_set():
                model = await repository.get(TEXT)
                with model.in_use, repository.memory.hold() as hold:
                    await asyncio.sleep(0)
                    prepared = await model.prepare(SLOW.encode(), Trace("id"), hold)
                    await model.infer(prepared, Trace("id"), top_k=1)
                answers.append(model)

        async def another() -> None:
            so_far = len(answers)
            await until(lambda: len(answers) > so_far)

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for _ in range(10):
            edit(store / TEXT / "1", lambda m: m.update(title=m.get("title", "") + "."))
            await repository.refresh()
            await another()
        done.set()
        await asyncio.gather(*asking)
        assert len(set(map(id, answers))) > 2


async def test_the_store_is_watched(store: Path) -> None:
    settings = Settings(store=store, cores=1, measure_seconds=0, poll_seconds=0.05)
    repository = Repository(settings, Telemetry())
    await repository.start()
    await repository.settled()
    build_text(store, "2")
    async with asyncio.timeout(60):
        while await latest(repository) != "2":
            await asyncio.to_thread(bool)
    await repository.close()
