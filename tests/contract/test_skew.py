"""The two implementations of the preprocessing words agree, on inputs nobody picked."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convserve import preprocess
from convserve.errors import InvalidInput
from convserve.manifest import Manifest
from convserve.settings import Settings
from convserve_models import recipes, reference
from tests.artifacts import assert_rounded_alike

ROOT = Path(__file__).parents[2]
STORE = ROOT / "models" / "store"
ARTIFACTS = sorted(path.parent for path in STORE.glob("*/*/manifest.json"))
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]
FORMATS = {
    "PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
    "JPEG": {"L", "RGB", "CMYK"},
    "WEBP": {"RGB", "RGBA"},
    "BMP": {"1", "L", "P", "RGB"},
    "GIF": {"L", "P"},
    "TIFF": {"1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16"},
}


def manifests(modality: str) -> list[Manifest]:
    cards = [
        Manifest.model_validate_json((path / "manifest.json").read_bytes()) for path in ARTIFACTS
    ]
    return [card for card in cards if card.preprocess.modality == modality]


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(sorted(FORMATS[kind])))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    noise = np.random.default_rng(draw(st.integers(0, 9))).integers(
        0, 256, (height, width, 4), np.uint8
    )
    if mode == "I;16":
        picture = Image.fromarray(noise[..., 0].astype(np.uint16) * 256 + noise[..., 1])
    else:
        picture = Image.fromarray(noise).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = draw(st.integers(1, 8))
    options = {"exif": exif} if kind in {"JPEG", "PNG", "WEBP", "TIFF"} else {}
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("manifest", manifests("image"), ids=lambda card: card.id)
@settings(deadline=None, max_examples=300)
@given(encoded=pictures())
def test_images(manifest: Manifest, encoded: bytes) -> None:
    steps = [step.model_dump() for step in manifest.preprocess.steps]
    service = preprocess.build(manifest, Settings())
    (pixels,) = service.peek(encoded).finish().inputs.values()
    assert_rounded_alike(pixels, reference.image(encoded, steps))


@pytest.mark.parametrize("manifest", manifests("text"), ids=lambda card: card.id)
@settings(deadline=None, max_examples=300)
@given(text=st.text(max_size=900) | st.text(st.characters(max_codepoint=300), max_size=900))
def test_texts(manifest: Manifest, text: str) -> None:
    steps = [step.model_dump() for step in manifest.preprocess.steps]
    service = preprocess.build(manifest, Settings())
    if not text.strip():
        with pytest.raises(InvalidInput):
            service.peek(text.encode()).finish()
        return
    (ids,) = service.peek(text.encode()).finish().inputs.values()
    np.testing.assert_array_equal(ids, reference.text(text, steps))


def test_every_word_of_the_schema_is_used_by_an_artifact_or_a_recipe() -> None:
    schema = json.loads((STORE / "artifact.schema.json").read_text(encoding="utf-8"))
    words = {step["properties"]["op"]["const"] for step in schema["$defs"]["step"]["oneOf"]}
    shipped = [card for modality in ("image", "text") for card in manifests(modality)]
    used = {step.op for card in shipped for step in card.preprocess.steps}
    for recipe in map(recipes.load, recipes.names()):
        used |= {step["op"] for step in recipe.preprocess.steps}
    assert used == words
