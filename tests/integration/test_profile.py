import json
from pathlib import Path

import pytest

from convserve.cli import main
from tests.artifacts import TEXT


def run(store: Path, *arguments: str) -> int:
    flags = ["--store", str(store), "--cores", "2", "--max-batch-size", "3"]
    return main(["profile", TEXT, *flags, *arguments])


def test_a_profile_shows_every_batch_size_on_one_and_on_all_cores(
    pristine_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "profile.json", tmp_path / "profile.png"
    assert run(pristine_store, "--out", str(out), "--plot", str(plot)) == 0
    figures = json.loads(out.read_text())
    assert [size for size, _ in figures["curve"]] == [1, 2, 3]
    assert all(seconds > 0 for _, seconds in figures["curve"])
    trials = {
        (trial["layout"]["executors"], trial["layout"]["threads"], trial["batch_size"])
        for trial in figures["choice"]["trials"]
    }
    assert trials == {(*way, size) for way in ((2, 1), (1, 2)) for size in (1, 2, 3)}
    table = capsys.readouterr().out
    assert "items/s, 2 at once on 1 thread each" in table
    assert "chosen: " in table
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_plot_is_refused_before_anything_is_measured(
    pristine_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("convserve.profiling.find_spec", lambda name: None)
    assert run(pristine_store, "--plot", str(tmp_path / "profile.png")) == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == 1
    assert "there is no model" in capsys.readouterr().err


def test_a_target_tells_cores_and_replicas(
    pristine_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "profile.json"
    assert run(pristine_store, "--target-rps", "1e6", "--p99", "60000", "--out", str(out)) == 0
    capacity = json.loads(out.read_text())["capacity"]
    assert 0 < capacity["loop_seconds"] <= capacity["cpu_seconds"]
    assert all(one["replicas"] * one["takes"] >= 1e6 for one in capacity["options"])
    assert "fewest cores: " in capsys.readouterr().out


def test_a_target_that_nothing_reaches_is_refused(
    pristine_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pristine_store, "--target-rps", "10", "--p99", "0.001") == 2
    assert "even when it is alone" in capsys.readouterr().err
    assert run(pristine_store, "--target-rps", "10") == 2
    assert "need each other" in capsys.readouterr().err
