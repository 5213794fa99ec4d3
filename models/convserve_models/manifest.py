"""Validates, signs and publishes manifests. The schema beside this file is the only authority."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA_VERSION = 1


class InvalidManifest(Exception):
    """A manifest breaks the schema; the message names the place."""


@cache
def schema() -> dict[str, Any]:
    """The artifact's JSON Schema (2020-12)."""
    text = (files("convserve_models") / "artifact.schema.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def validate(manifest: dict[str, Any]) -> None:
    """Raise `InvalidManifest` naming the first place that breaks the schema."""
    for error in Draft202012Validator(schema()).iter_errors(manifest):
        raise InvalidManifest(f"{error.json_path}: {error.message}")


def validate_step(step: dict[str, Any]) -> None:
    """Raise `InvalidManifest` unless this is one preprocessing step."""
    part = {"$ref": "#/$defs/step", "$defs": schema()["$defs"]}
    for error in Draft202012Validator(part).iter_errors(step):
        raise InvalidManifest(f"{error.json_path}: {error.message}")


def sha256(content: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(content).hexdigest()


def graph(path: Path, opset: int) -> dict[str, Any]:
    """What a manifest says of an ONNX file."""
    content = path.read_bytes()
    return {
        "file": path.name,
        "sha256": sha256(content),
        "bytes": len(content),
        "opset": opset,
    }


def sign(folder: Path) -> None:
    """Write `manifest.sha256`, which covers the manifest's bytes as they are now."""
    digest = sha256((folder / "manifest.json").read_bytes())
    (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")


def write(manifest: dict[str, Any], folder: Path) -> None:
    """Validate, write `manifest.json` and sign it."""
    validate(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    sign(folder)


def next_version(artifact: Path) -> str:
    """One more than the largest version present in an artifact's directory."""
    present = [int(path.name) for path in artifact.glob("*") if path.name.isdigit()]
    return str(max(present, default=0) + 1)


def publish(folder: Path, target: Path) -> Path:
    """Put the finished directory into the store, in place of what that version held."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder, fresh)
    fresh.chmod(0o755)  # a temporary directory is its maker's alone, a store is not
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target
