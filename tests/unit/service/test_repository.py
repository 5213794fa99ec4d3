import asyncio
import logging
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from convserve.engine.cores import Cores
from convserve.engine.layout import Choice, Layout, Trial
from convserve.engine.memory import resident
from convserve.errors import Draining, ModelNotFound, ModelNotReady
from convserve.loading import Loader
from convserve.offline import UNLIMITED
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.settings import Settings
from convserve.telemetry import Telemetry, Trace
from convserve.tuning import Tuner
from tests.artifacts import (
    IMAGE,
    IMAGE_LABELS,
    TEXT,
    build_text,
    image_probabilities,
    picture,
    text_graph,
)

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(
    store: Path, *models: str, settle: bool = True, measure_seconds: float = 2
) -> AsyncIterator[Repository]:
    settings = Settings(store=store, models=models, cores=1, measure_seconds=measure_seconds)
    repository = Repository(settings, Telemetry())
    await repository.start()
    if settle:
        await repository.settled()
    yield repository
    await repository.close()


async def test_default_models_are_ready_and_answer(pristine_store: Path) -> None:
    async with opened(pristine_store) as repository:
        repository.check_ready()
        model = await repository.get(IMAGE)
        encoded, trace = picture(40, 30), Trace("id")
        with repository.memory.hold() as hold:
            prepared = await model.prepare(encoded, trace, hold)
        answer = await model.infer(prepared, trace, top_k=4)
        expected = dict(zip(IMAGE_LABELS, image_probabilities(encoded).tolist(), strict=True))
        top = answer["top"]
        assert isinstance(top, list)
        found = {entry["label"]: entry["probability"] for entry in top}
        assert found == pytest.approx(expected, abs=1e-5)
        assert trace.batch_size == 1
        assert trace.spans.keys() == {"decode", "queue", "inference", "post"}


async def test_other_models_load_once_at_their_first_use(pristine_store: Path) -> None:
    async with opened(pristine_store, IMAGE) as repository:
        repository.check_ready()
        assert repository.entries.versions(TEXT)[0].state == "available"
        models = await asyncio.gather(*(repository.get(TEXT) for _ in range(5)))
        assert len(set(map(id, models))) == 1
        assert repository.entries.versions(TEXT)[0].state == "ready"


async def test_a_first_user_who_leaves_does_not_stop_the_loading(pristine_store: Path) -> None:
    async with opened(pristine_store, IMAGE) as repository:
        first = asyncio.create_task(repository.get(TEXT))
        await asyncio.sleep(0)
        first.cancel()
        assert (await repository.get(TEXT)).id == TEXT


async def test_the_latest_version_is_the_largest_number(store: Path) -> None:
    build_text(store, "9")
    build_text(store, "10")
    (store / TEXT / "latest").mkdir()
    async with opened(store) as repository:
        assert [entry.version for entry in repository.entries.versions(TEXT)] == ["10", "9", "1"]
        assert (await repository.get(TEXT)).version == "10"
        assert (await repository.get(TEXT, "9")).version == "9"
        for other in ("8", ""):
            with pytest.raises(ModelNotFound, match=f"no version '{other}'; it has"):
                await repository.get(TEXT, other)


async def test_a_name_that_is_nearly_right_is_suggested(pristine_store: Path) -> None:
    async with opened(pristine_store) as repository:
        with pytest.raises(ModelNotFound, match="'tiny_txt'; did you mean 'tiny_text'"):
            await repository.get("tiny_txt")


async def test_while_a_required_model_loads_the_service_is_not_ready(pristine_store: Path) -> None:
    async with opened(pristine_store, TEXT, settle=False) as repository:
        with pytest.raises(ModelNotReady, match="tiny_text is loading") as caught:
            repository.check_ready()
        assert caught.value.retry_after == 1
        await asyncio.sleep(0)
        with pytest.raises(ModelNotReady, match="is loading"):
            await repository.get(TEXT)
        await repository.settled()
        repository.check_ready()


async def test_a_broken_model_keeps_the_service_unready_and_the_others_answering(
    store: Path,
) -> None:
    (store / TEXT / "1" / "model.onnx").write_bytes(b"no graph")
    async with opened(store) as repository:
        with pytest.raises(ModelNotReady, match=r"tiny_text is not served: .*model\.onnx"):
            repository.check_ready()
        with pytest.raises(ModelNotReady, match=r"model\.onnx"):
            await repository.get(TEXT)
        assert (await repository.get(IMAGE)).id == IMAGE
        entry = repository.entries.versions(TEXT)[0]
        assert entry.state == "failed"
        assert "model.onnx" in str(entry.fault)


async def test_what_is_required_but_not_there_is_told(pristine_store: Path) -> None:
    async with opened(pristine_store, "missing") as repository:
        with pytest.raises(ModelNotReady, match="missing is required, but the store"):
            repository.check_ready()


@pytest.mark.parametrize("content", ["{", "[]", '{"default": 1}'])
async def test_a_store_file_that_cannot_be_read_is_told(store: Path, content: str) -> None:
    (store / "store.json").write_text(content)
    async with opened(store) as repository:
        with pytest.raises(ModelNotReady, match=r"store\.json cannot be read.*write it as"):
            repository.check_ready()


async def test_without_a_store_file_all_models_are_required(store: Path) -> None:
    (store / "store.json").unlink()
    async with opened(store) as repository:
        repository.check_ready()
        assert all(map(repository.required, (IMAGE, TEXT)))


async def test_an_empty_store_is_never_ready(tmp_path: Path) -> None:
    async with opened(tmp_path) as repository:
        with pytest.raises(ModelNotReady, match="holds no artifact"):
            repository.check_ready()


async def test_while_draining_it_is_not_ready_but_answers(pristine_store: Path) -> None:
    async with opened(pristine_store) as repository:
        repository.begin_drain()
        with pytest.raises(Draining):
            repository.check_ready()
        assert (await repository.get(IMAGE)).id == IMAGE


async def measured(store: Path, seconds: float, busy: bool) -> dict[int, int]:
    """Batch size → how many runs of it a model was measured with."""
    async with opened(store, TEXT, measure_seconds=0) as repository:
        model = await repository.get(TEXT)
        await model.measure(seconds, lambda: not busy)
        return {p.batch_size: p.n for curve in model.cost.points().values() for p in curve}


async def test_a_ready_model_is_measured_by_batch_size(pristine_store: Path) -> None:
    assert await measured(pristine_store, 60, busy=False) == dict.fromkeys((1, 2, 4, 8), 5)


@pytest.mark.parametrize(("seconds", "busy"), [(0.0, False), (0.2, True)])
async def test_it_is_measured_only_within_its_time_and_when_nothing_else_is_to_do(
    pristine_store: Path, seconds: float, busy: bool
) -> None:
    assert await measured(pristine_store, seconds, busy=busy) == {}


async def test_measuring_begins_by_itself(pristine_store: Path) -> None:
    async with opened(pristine_store, measure_seconds=60) as repository:
        models = [await repository.get(name) for name in (IMAGE, TEXT)]
        async with asyncio.timeout(60):
            while not all(model.cost.points() for model in models):
                await asyncio.to_thread(bool)


async def test_closing_does_not_wait_for_the_measuring(
    pristine_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loader, "_idle", lambda loader: False)
    async with asyncio.timeout(30), opened(pristine_store, measure_seconds=1e6) as repository:
        assert len(repository._chores._tasks) > 1
    assert not repository._chores._tasks


async def test_a_measurement_that_fails_is_logged_and_harms_nobody(
    pristine_store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(tuner: Tuner, items: object) -> float:
        raise OSError("the golden is gone")

    monkeypatch.setattr(Tuner, "_time", broken)
    async with opened(pristine_store) as repository:
        while "the golden is gone" not in caplog.text:
            await asyncio.to_thread(bool)
        assert (await repository.get(TEXT)).id == TEXT


# ------------------------------------------------------------------------- the memory for models


class Memory:
    """A process in which every model that was loaded takes 100 bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.others = 0
        self.repository: Repository | None = None
        for module in ("loading", "engine.memory"):
            monkeypatch.setattr(f"convserve.{module}.resident", self.resident)
        monkeypatch.setattr("convserve.loading.estimate", lambda path: 100)

    def resident(self) -> int:
        assert self.repository
        return self.others + 100 * sum(entry.model is not None for entry in self.repository.entries)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


@asynccontextmanager
async def crowded(
    store: Path, memory: Memory, budget: int, versions: int = 4
) -> AsyncIterator[Repository]:
    """The image model is required; of the text model there are several versions."""
    for version in range(2, versions + 1):
        build_text(store, str(version))
    settings = Settings(
        store=store, models=(IMAGE,), cores=1, measure_seconds=0, memory_budget_bytes=budget
    )
    memory.repository = repository = Repository(settings, Telemetry())
    await repository.start()
    await repository.settled()
    yield repository
    await repository.close()


def loaded(repository: Repository) -> set[str]:
    return {e.version for e in repository.entries.versions(TEXT) if e.state == "ready"}


async def test_the_least_recently_used_give_way(store: Path, memory: Memory) -> None:
    async with crowded(store, memory, budget=300) as repository:
        for version in "121343":
            await repository.get(TEXT, version)
            assert memory.resident() <= 300
        assert loaded(repository) == {"3", "4"}
        await repository.get(TEXT, "1")
        assert loaded(repository) == {"3", "1"}
        repository.check_ready()  # the required model stays
        metrics = repository._telemetry.exposition().decode()
        assert f'convserve_model_unloads_total{{model="{TEXT}",version="2"}} 1.0' in metrics
        assert not re.search(
            rf'convserve_model_info{{[^}}]*model="{TEXT}"[^}}]*version="2"', metrics
        )


async def test_without_room_a_model_is_not_loaded_and_nobody_leaves(
    store: Path, memory: Memory
) -> None:
    async with crowded(store, memory, budget=300) as repository:
        await repository.get(TEXT, "1")
        memory.others = 150
        with pytest.raises(ModelNotReady, match="no memory to load tiny_text now") as raised:
            await repository.get(TEXT, "2")
        assert raised.value.retry_after == 1
        assert loaded(repository) == {"1"}
        memory.others = 0
        assert (await repository.get(TEXT, "2")).version == "2"


async def test_who_uses_a_model_that_is_unloaded_may_finish(store: Path, memory: Memory) -> None:
    async with crowded(store, memory, budget=200) as repository:
        first, trace = await repository.get(TEXT, "1"), Trace("id")
        with first.in_use, repository.memory.hold() as hold:
            second = asyncio.create_task(repository.get(TEXT, "2"))
            while repository.entries.versions(TEXT)[-1].state == "ready":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            prepared = await first.prepare(b"Goal!", trace, hold)
            answer = await first.infer(prepared, trace, top_k=None)
            assert answer["label"]
        assert (await second).version == "2"
        assert not hasattr(first.graphs.answering, "_session")  # the graph is gone


async def test_users_of_all_models_at_once_are_all_served(store: Path, memory: Memory) -> None:
    async def use(version: str) -> str:
        async with asyncio.timeout(60):
            while True:
                try:
                    model = await repository.get(TEXT, version)
                except ModelNotReady:
                    await asyncio.sleep(0.01)
                    continue
                trace = Trace("id")
                with model.in_use, repository.memory.hold() as hold:
                    prepared = await model.prepare(b"Goal!", trace, hold)
                    await model.infer(prepared, trace, top_k=None)
                return model.version

    async with crowded(store, memory, budget=300) as repository:
        versions = "12341432" * 3
        assert await asyncio.gather(*map(use, versions)) == list(versions)
        assert memory.resident() <= 300


async def test_models_give_way_to_whatever_else_takes_the_memory(
    store: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convserve.loading.WATCH_SECONDS", 0.01)
    async with crowded(store, memory, budget=300) as repository:
        await repository.get(TEXT, "1")
        await repository.get(TEXT, "2")
        memory.others = 100
        while len(loaded(repository)) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        memory.others = 1000
        while loaded(repository):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        repository.check_ready()


def heavy(graph: bytes) -> bytes:
    """The same network with 64 MiB of weights, from which it takes nothing."""
    model = onnx.load_from_string(graph)
    weights = np.random.default_rng(0).normal(size=(4096, 4096)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "heavy"))
    softmax = model.graph.node.pop()
    for operator, inputs, output in (
        ("Gather", ["heavy", "slow_count"], "line"),
        ("ReduceMax", ["line"], "most"),
        ("Mul", ["most", "zero"], "nought"),
        ("Add", [softmax.input[0], "nought"], "same"),
    ):
        model.graph.node.append(helper.make_node(operator, inputs, [output]))
    softmax.input[0] = "same"
    model.graph.node.append(softmax)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


async def test_a_model_that_is_unloaded_gives_its_memory_back(store: Path) -> None:
    """Real bytes: a text model with 64 MiB of weights, loaded and unloaded."""
    shutil.rmtree(store / TEXT)
    build_text(store, "1", graph=heavy(text_graph()))
    async with opened(store, IMAGE) as repository:
        await repository.get(TEXT)
        entry, with_it = repository.entries.versions(TEXT)[0], resident()
        assert 64 * 2**20 <= entry.footprint < 3 * 64 * 2**20
        await repository._loader._unload([entry])
        assert with_it - resident() > 60 * 2**20
        assert entry.state == "available"


# ------------------------------------------------------------ how runs share the cores, measured


@asynccontextmanager
async def two_cores(store: Path) -> AsyncIterator[ServedModel]:
    settings = Settings(store=store, models=(TEXT,), cores=2, measure_seconds=0)
    repository = Repository(settings, Telemetry())
    await repository.start()
    await repository.settled()
    yield await repository.get(TEXT)
    await repository.close()


async def answers(model: ServedModel) -> list[object]:
    async def ask(text: str) -> object:
        trace = Trace("id")
        with model.in_use:
            prepared = await model.prepare(text.encode(), trace, UNLIMITED.hold().__enter__())
            return await model.infer(prepared, trace, top_k=None)

    return list(await asyncio.gather(*(ask(f"text {number}") for number in range(20))))


@pytest.mark.parametrize("wins", [Layout(2, 1), Layout(1, 2)])
async def test_the_faster_way_to_share_the_cores_is_chosen_told_and_kept(
    pristine_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wins: Layout,
) -> None:
    def attempt(run: Callable[[], object], layout: Layout, size: int, cores: Cores) -> Trial:
        run()
        return Trial(layout, size, size * (100.0 if layout == wins else 50.0))

    monkeypatch.setattr("convserve.graphs.attempt", attempt)
    async with two_cores(pristine_store) as model:
        assert model.measured.choice == Choice(Layout(2, 1), "not measured yet")
        before = await answers(model)
        with caplog.at_level(logging.INFO):
            await model.measure(60, lambda: True)
        assert model.measured.choice.layout == wins
        assert f"{TEXT} runs {wins} (" in caplog.text
        assert {trial.batch_size for trial in model.measured.choice.trials} == {1, 8}
        assert await answers(model) == before
        assert model._batcher._runs.executors == wins.executors
    async with two_cores(pristine_store) as model:
        assert model.measured.choice.layout == wins
        assert model._batcher._runs.executors == wins.executors
        assert await answers(model) == before
        monkeypatch.delattr("convserve.graphs.attempt")  # nothing is measured again
        await model.measure(60, lambda: True)


async def test_without_time_the_usual_way_stays(pristine_store: Path) -> None:
    async with two_cores(pristine_store) as model:
        await model.measure(0, lambda: True)
        assert model.measured.choice.layout == Layout(2, 1)
        assert model.measured.choice.trials == ()
