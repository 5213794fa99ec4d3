"""What was proved once is trusted for as long as all that it was proved of is the same."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convserve.engine.cpu import cpu_budget
from convserve.engine.decoders import Decoders
from convserve.errors import InvalidArtifact
from convserve.served_model import open_model
from convserve.settings import Settings
from convserve.telemetry import Telemetry
from tests.artifacts import IMAGE, TEXT, build_text, edit, image_graph, quantize_text, text_graph


def proved(path: Path, *, trusting: bool = True, **settings: Any) -> int:
    """Open the artifact as a new process would; how many goldens its graph of floats reproduced."""
    _, verdict = open_model(
        path, Settings(**settings), cpu_budget(1), Decoders(1), Telemetry(), trusting=trusting
    )
    return verdict.goldens


def stamps() -> list[Path]:
    return sorted((Settings().cache / "verified").iterdir())


def test_a_later_start_proves_one_golden(pristine_store: Path) -> None:
    for name in (IMAGE, TEXT):
        path = pristine_store / name / "1"
        assert [proved(path) for _ in range(3)] == [3, 1, 1]


def test_who_trusts_nobody_proves_all(pristine_store: Path) -> None:
    path = pristine_store / IMAGE / "1"
    assert [proved(path, trusting=False) for _ in range(2)] == [3, 3]
    assert proved(path) == 3


def relabel(path: Path) -> None:
    edit(path, lambda manifest: manifest["postprocess"]["labels"].reverse())


def refilter(path: Path) -> None:
    edit(path, lambda manifest: manifest["preprocess"]["steps"][1].update(filter="nearest"))


def reorder(path: Path) -> None:
    (path / "model.onnx").write_bytes(image_graph(order=(2, 1, 0)))
    edit(path, lambda manifest: None)


def flip(path: Path, name: str) -> None:
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        relabel,
        refilter,
        reorder,
        lambda path: flip(path, "model.onnx"),
        lambda path: flip(path, "samples/photo.jpg"),
        lambda path: flip(path, "manifest.json"),
    ],
    ids=["label", "filter", "graph", "byte of the graph", "byte of a golden", "byte of the card"],
)
def test_a_change_after_it_was_stamped_is_found(
    store: Path, change: Callable[[Path], None]
) -> None:
    path = store / IMAGE / "1"
    assert [proved(path), proved(path)] == [3, 1]
    change(path)
    for _ in range(2):  # and what failed is not trusted the next time
        with pytest.raises(InvalidArtifact):
            proved(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUNTIME", "onnxruntime 0.0"),
        ("cpu_identity", lambda: "sse2"),
        ("_code", lambda: "another digest"),
        ("preprocess.libraries", lambda: ("another Pillow",)),
    ],
)
def test_with_another_runtime_processor_code_or_decoder_all_is_proved_again(
    pristine_store: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    path = pristine_store / IMAGE / "1"
    proved(path)
    monkeypatch.setattr(f"convserve.stamp.{name}", value)
    assert [proved(path), proved(path)] == [3, 1]


def test_with_another_limit_of_pixels_all_is_proved_again(pristine_store: Path) -> None:
    path = pristine_store / IMAGE / "1"
    proved(path)
    assert proved(path, max_pixels=10_000_000) == 3


def test_each_graph_has_a_stamp_of_its_own(tmp_path: Path) -> None:
    path = build_text(tmp_path)
    quantize_text(path)
    proved(path, precision="float")
    assert len(stamps()) == 1
    proved(path)
    assert len(stamps()) == 2


def test_a_graph_of_integers_that_fails_is_not_stamped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = build_text(tmp_path)
    quantize_text(path, text_graph(rounds=0, coarse=0.5))
    for _ in range(2):
        caplog.clear()
        proved(path)
        assert "goes without its graph 'int8'" in caplog.text
    assert len(stamps()) == 1


def test_where_nothing_can_be_written_all_is_proved_each_time(
    pristine_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "a file"
    cache.touch()
    with caplog.at_level(logging.INFO):
        assert [proved(pristine_store / IMAGE / "1", cache=cache) for _ in range(2)] == [3, 3]
    assert "the next start proves all goldens again" in caplog.text
