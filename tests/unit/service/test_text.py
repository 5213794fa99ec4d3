from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.artifact import read_manifest
from convserve.errors import InvalidArtifact, InvalidInput
from convserve.manifest import Manifest
from convserve.preprocess.text import TextPreprocess
from convserve.settings import Settings
from convserve_models import reference
from tests.artifacts import TEXT

Steps = list[dict[str, Any]]


@pytest.fixture(scope="module")
def manifest(pristine_store: Path) -> Manifest:
    return read_manifest(pristine_store / TEXT / "1")


def build(manifest: Manifest, steps: list[dict[str, Any]]) -> TextPreprocess:
    document = manifest.model_dump(mode="json", exclude_unset=True)
    document["preprocess"]["steps"] = steps
    return TextPreprocess(Manifest.model_validate(document, strict=False), Settings())


@given(
    text=st.text(min_size=1, max_size=60).filter(str.strip),
    alphabet=st.text(min_size=1, max_size=20),
    length=st.integers(1, 50),
    reverse=st.booleans(),
    lower=st.booleans(),
)
def test_it_reads_texts_as_the_training_side_does(
    manifest: Manifest, text: str, alphabet: str, length: int, reverse: bool, lower: bool
) -> None:
    characters = {"op": "characters", "alphabet": alphabet, "length": length, "reverse": reverse}
    steps = [{"op": "lowercase"}] * lower + [characters]
    prepared = build(manifest, steps).peek(text.encode()).finish()
    ids = prepared.inputs["ids"]
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, reference.text(text, steps))

    read = text.lower() if lower else text
    unknown = [c for c in read[:length] if c not in alphabet and not c.isspace()]
    assert prepared.facts == {"truncated": len(read) > length, "unknown_characters": len(unknown)}


@given(text=st.text(min_size=1, max_size=60).filter(str.strip), length=st.integers(1, 12))
def test_it_reads_words_as_the_training_side_does(
    manifest: Manifest, text: str, length: int
) -> None:
    steps: Steps = [{"op": "words", "length": length}, {"op": "pad", "lengths": [1, 4, 12]}]
    prepared = build(manifest, steps).peek(text.encode()).finish()
    ids = prepared.inputs["ids"]
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, reference.text(text, steps))
    everything = reference.text(text, [{"op": "words", "length": 60}])
    read = min(length, len(everything))
    assert np.count_nonzero(ids) == read > 0
    assert len(ids) == min(size for size in (1, 4, 12) if size >= read)
    assert prepared.facts == {"truncated": len(everything) > length, "unknown_characters": 0}


def test_no_word_has_the_id_of_padding(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("convserve.preprocess.text", "convserve_models.reference"):
        monkeypatch.setattr(f"{side}.crc32", lambda _: 0)
    steps: Steps = [{"op": "words", "length": 4}, {"op": "pad", "lengths": [4]}]
    prepared = build(manifest, steps).peek(b"two words").finish()
    found, expected = prepared.inputs["ids"], reference.text("two words", steps)
    assert found.tolist() == expected.tolist() == [1, 1, 0, 0]


def test_spaces_are_not_unknown(manifest: Manifest) -> None:
    steps = [{"op": "characters", "alphabet": "ab", "length": 20}]
    prepared = build(manifest, steps).peek(b"a b\na\tb ?").finish()
    assert prepared.facts == {"truncated": False, "unknown_characters": 1}


@pytest.mark.parametrize("data", [b"", b" \n\t", "\u2003".encode()])
def test_nothing_to_read_is_refused(manifest: Manifest, data: bytes) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        TextPreprocess(manifest, Settings()).peek(data).finish()


def test_what_is_not_utf8_is_told_with_its_place(manifest: Manifest) -> None:
    with pytest.raises(InvalidInput, match="0xff at offset 2"):
        TextPreprocess(manifest, Settings()).peek(b"ab\xff").finish()


def test_a_long_text_is_work_for_a_thread(manifest: Manifest) -> None:
    preprocess = TextPreprocess(manifest, Settings())
    assert not preprocess.peek(b"a" * 1000).large
    assert preprocess.peek(b"a" * 100_000).large


@pytest.mark.parametrize(
    "steps",
    [
        [{"op": "lowercase"}],
        [{"op": "decode"}, {"op": "characters", "alphabet": "a", "length": 1}],
        [{"op": "characters", "alphabet": "a", "length": 1}, {"op": "lowercase"}],
        [{"op": "characters", "alphabet": "a", "length": 1}] * 2,
        [{"op": "words", "length": 4}],
        [{"op": "pad", "lengths": [4]}],
        [{"op": "words", "length": 4}, {"op": "pad", "lengths": [3]}],
    ],
)
def test_steps_that_cannot_work_are_refused(
    manifest: Manifest, steps: list[dict[str, Any]]
) -> None:
    with pytest.raises(InvalidArtifact, match=r"preprocess\.steps"):
        build(manifest, steps)
