"""Versions that come into a store while it is served."""

import shutil
from pathlib import Path

from tests.artifacts import build_text

FIRST_BAD = 1000


def add(store: Path, version: int) -> Path:
    """Write a good version, file by file, into the store that is served."""
    return build_text(store, str(version))


def add_corrupt(store: Path, version: int) -> Path:
    """Write a version whose graph has one byte that its manifest does not know."""
    path = build_text(store, str(FIRST_BAD + version))
    graph = path / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    return path


def remove(path: Path) -> None:
    """Take a version out of the store at once, as a deployment would: renamed, then deleted."""
    gone = path.rename(path.parents[2] / f"gone-{path.name}")
    shutil.rmtree(gone)
