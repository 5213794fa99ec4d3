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
