"""What counts as a right answer to a golden."""

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.postprocess.transcription import collapsed
from loadtests.samples import read_store, transcript
from tests.artifacts import AUDIO, LETTERS, build_audio, build_store

NAMES = ["", *LETTERS]


@given(st.lists(st.integers(0, len(LETTERS)), min_size=1, max_size=30), st.randoms())
def test_a_golden_spells_what_the_service_decodes(path: list[int], random: Random) -> None:
    expected = {f"{place} {NAMES[letter]}": 0.9 for place, letter in enumerate(path)}
    expected |= {f"{p} {NAMES[(letter + 1) % len(NAMES)]}": 0.1 for p, letter in enumerate(path)}
    shuffled = sorted(expected.items(), key=lambda _: random.random())
    assert transcript(dict(shuffled)) == "".join(NAMES[letter] for letter in collapsed(path))


def test_samples_are_grouped_by_modality_and_bounded_in_size(tmp_path: Path) -> None:
    build_store(tmp_path)
    build_audio(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"default": [AUDIO]}))
    sounds = read_store(tmp_path, 100_000)
    assert set(sounds) == {"audio"}
    assert len(sounds["audio"]) == 3
    smallest = min(len(sound.body) for sound in sounds["audio"])
    assert [len(s.body) for s in read_store(tmp_path, smallest)["audio"]] == [smallest]
    with pytest.raises(ValueError, match="raise --max-bytes"):
        read_store(tmp_path, smallest - 1)
