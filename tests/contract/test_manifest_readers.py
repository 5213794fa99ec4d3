"""The two readers of the artifact's schema accept and refuse the same manifests."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from convserve.manifest import Manifest
from convserve_models import manifest as training_side
from tests.artifacts import build_audio, build_cepstra

STORE = Path(__file__).parents[2] / "models" / "store"
SHIPPED = [
    json.loads(path.read_text(encoding="utf-8")) for path in sorted(STORE.glob("*/*/manifest.json"))
]
with TemporaryDirectory() as scratch:
    SHIPPED += [
        json.loads((build(Path(scratch)) / "manifest.json").read_text(encoding="utf-8"))
        for build in (build_audio, build_cepstra)
    ]
JUNK: list[Any] = [
    *(None, True, 0, -1, 1, 1.5, 2.0, 1e9),
    *("", "x", "transcription", "pcm", "../x", "/x", "a/b", "cat", "1", "01", "bilinear"),
    *([], [1], [1, 2], [1.0, 2], ["a", "a"], ["a", "b"], [None]),
    *({}, {"a": 1}, {"a": 0.5}, {"x": None}),
]
NAMES = ["unknown", "seconds", "rate", "lengths", "filter", "reverse", "temperature", "note"]


def by_the_schema(manifest: dict[str, Any]) -> bool:
    try:
        training_side.validate(manifest)
    except training_side.InvalidManifest:
        return False
    return True


def by_the_service(manifest: dict[str, Any]) -> bool:
    try:
        Manifest.model_validate_json(json.dumps(manifest))
    except ValidationError:
        return False
    return True


def places(node: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All paths to values inside a manifest; of long lists only the first two entries."""
    found = [here] if here else []
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        entries = node.items()
    elif isinstance(node, list):
        entries = enumerate(node[:2])
    for key, value in entries:
        found += places(value, (*here, key))
    return found


@st.composite
def mutants(draw: st.DrawFn) -> dict[str, Any]:
    manifest = copy.deepcopy(draw(st.sampled_from(SHIPPED)))
    *path, last = draw(st.sampled_from(places(manifest)))
    parent: Any = manifest
    for key in path:
        parent = parent[key]
    what = draw(st.sampled_from(["replace", "drop", "add", "double"]))
    if what == "drop":
        del parent[last]
    elif what == "add" and isinstance(parent, dict):
        parent[draw(st.sampled_from(NAMES))] = draw(st.sampled_from(JUNK))
    elif what == "double" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    else:
        parent[last] = draw(st.sampled_from(JUNK))
    return dict(manifest)


@pytest.mark.parametrize("manifest", SHIPPED, ids=lambda card: str(card["id"]))
def test_both_accept_what_is_shipped(manifest: dict[str, Any]) -> None:
    training_side.validate(manifest)
    assert by_the_service(manifest)


@settings(deadline=None, max_examples=1500)
@given(manifest=mutants())
def test_both_judge_every_mutant_alike(manifest: dict[str, Any]) -> None:
    assert by_the_service(manifest) == by_the_schema(manifest)


def test_the_smallest_manifest_is_enough() -> None:
    required = training_side.schema()["required"]
    for card in SHIPPED:
        smallest = {key: card[key] for key in required}
        assert by_the_schema(smallest)
        assert by_the_service(smallest)
        for key in required:
            rest = {name: value for name, value in smallest.items() if name != key}
            assert not by_the_schema(rest)
            assert not by_the_service(rest)
