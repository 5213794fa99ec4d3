import json
import logging
from pathlib import Path

import pytest

from convserve.engine.cpu import CpuBudget
from convserve.engine.layout import Choice, Layout, Trial
from convserve.measured import Measured

BUDGET = CpuBudget(2.0, "two", executors=2)
SHAPES = ((32, 32, 3), (7,))


def measured(cache: Path, sha256: str = "a" * 64, size: int = 8, cores: float = 2.0) -> Measured:
    return Measured(cache, [sha256], size, CpuBudget(cores, "", executors=int(cores)))


def taught(cache: Path) -> Measured:
    one = measured(cache)
    for size, seconds in ((1, 0.001), (8, 0.006)):
        one.cost.learn(SHAPES, size, seconds)
    one.choice = Choice(Layout(1, 2), "faster", (Trial(Layout(1, 2), 8, 1234.5),))
    one.keep()
    return one


def test_what_one_process_measured_the_next_one_knows(tmp_path: Path) -> None:
    first, second = taught(tmp_path), measured(tmp_path)
    assert second.recalled
    assert not first.recalled
    assert second.choice == first.choice
    for size in range(20):
        assert second.cost.predict(SHAPES, size) == first.cost.predict(SHAPES, size)
    for _ in range(15):  # and it learns on
        second.cost.learn(SHAPES, 8, 0.1)
    assert second.cost.predict(SHAPES, 8) == 0.1


@pytest.mark.parametrize("other", [{"sha256": "b" * 64}, {"size": 4}, {"cores": 1.5}])
def test_another_graph_batch_or_budget_is_measured_anew(
    tmp_path: Path, other: dict[str, object]
) -> None:
    taught(tmp_path)
    assert not measured(tmp_path, **other).recalled  # type: ignore[arg-type]


def test_another_cpu_or_runtime_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("convserve.measured.RUNTIME", "onnxruntime 0.0")
        assert not measured(tmp_path).recalled
    monkeypatch.setattr("convserve.measured.cpu_identity", lambda: "sse2")
    assert not measured(tmp_path).recalled


@pytest.mark.parametrize("content", ["", "{", "[]", '{"choice": {}, "points": []}', "\xff"])
def test_a_damaged_file_is_told_and_measured_anew(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    taught(tmp_path)
    (file,) = (tmp_path / "measured").iterdir()
    file.write_text(content, encoding="latin-1")
    with caplog.at_level(logging.WARNING):
        one = measured(tmp_path)
    assert not one.recalled
    assert one.cost.points() == {}
    assert one.choice.layout == Layout(2, 1)
    assert "measured anew" in caplog.text


def test_a_place_that_cannot_be_written_is_told_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        taught(tmp_path / "file")
    assert "set CONVSERVE_CACHE" in caplog.text


def test_the_file_is_whole_and_alone(tmp_path: Path) -> None:
    for _ in range(3):
        taught(tmp_path)
    (file,) = (tmp_path / "measured").iterdir()
    assert json.loads(file.read_text())["choice"]["reason"] == "faster"
