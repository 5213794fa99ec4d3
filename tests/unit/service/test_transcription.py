"""CTC's decoders against enumeration of every path."""

from collections import defaultdict
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convserve.artifact import load_artifact
from convserve.errors import InferenceFailed, InvalidArtifact
from convserve.postprocess.transcription import (
    UNLIKELY,
    Floats,
    Prefix,
    Transcription,
    align,
    beam,
    collapsed,
)
from tests.artifacts import LETTERS, build_audio

PATHS = st.tuples(st.integers(1, 6), st.integers(2, 4), st.integers(0, 999))


def scores(positions: int, letters: int, seed: int, sharp: float = 2.0) -> Floats:
    logits = sharp * np.random.default_rng(seed).standard_normal((positions, letters))
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def texts(row: Floats) -> dict[Prefix, list[tuple[float, tuple[int, ...]]]]:
    """Every text with its paths and their log probabilities."""
    found = defaultdict(list)
    for path in product(range(row.shape[1]), repeat=len(row)):
        found[collapsed(path)].append((float(row[np.arange(len(row)), path].sum()), path))
    return found


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Transcription:
    path = build_audio(tmp_path_factory.mktemp("store"))
    return Transcription(load_artifact(path).manifest)


@settings(deadline=None, max_examples=60)
@given(PATHS)
def test_a_wide_beam_sums_over_all_paths(case: tuple[int, int, int]) -> None:
    row = scores(*case, sharp=1.0)
    expected = {
        text: np.logaddexp.reduce([p for p, _ in ways]) for text, ways in texts(row).items()
    }
    found = dict(beam(row, width=10_000))
    assert found.keys() == expected.keys()
    for text, score in found.items():
        assert score == pytest.approx(expected[text], abs=1e-6)
    best = beam(row, width=10_000)[0][0]
    assert expected[best] == pytest.approx(max(expected.values()))


@settings(deadline=None, max_examples=60)
@given(st.tuples(st.integers(1, 30), st.integers(2, 9), st.integers(0, 999)), st.integers(1, 9))
def test_a_narrow_beam_keeps_the_best_prefixes_of_each_position(
    case: tuple[int, int, int], width: int
) -> None:
    row = scores(*case, sharp=3.0)
    kept: dict[Prefix, tuple[float, float]] = {(): (0.0, -np.inf)}
    for emitted in row:
        following: dict[Prefix, tuple[float, float]] = defaultdict(lambda: (-np.inf, -np.inf))

        def add(text: Prefix, blank: float, letter: float, to: Any = following) -> None:
            to[text] = np.logaddexp(to[text][0], blank), np.logaddexp(to[text][1], letter)

        for text, (blank, letter) in kept.items():
            total = np.logaddexp(blank, letter)
            add(text, total + emitted[0], letter + emitted[text[-1]] if text else -np.inf)
            for i in range(1, row.shape[1]):
                if emitted[i] > UNLIKELY:
                    before = blank if text[-1:] == (i,) else total
                    add((*text, i), -np.inf, before + emitted[i])
        possible = {text: ends for text, ends in following.items() if max(ends) > -np.inf}
        ranked = sorted(possible.items(), key=lambda item: -np.logaddexp(*item[1]))
        kept = dict(ranked[:width])
    expected = {text: float(np.logaddexp(*ends)) for text, ends in kept.items()}
    assert dict(beam(row, width)) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(PATHS)
def test_align_finds_the_best_path_of_a_text(case: tuple[int, int, int]) -> None:
    row = scores(*case)
    for text, ways in texts(row).items():
        path = align(row, text)
        assert collapsed(path.tolist()) == text
        assert row[np.arange(len(row)), path].sum() == pytest.approx(max(ways)[0], abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(PATHS, st.integers(0, 20))
def test_certain_blanks_behind_the_end_change_nothing(
    case: tuple[int, int, int], behind: int
) -> None:
    row = scores(*case)
    silence = np.full((behind, row.shape[1]), -1e4)
    silence[:, 0] = 0.0
    longer = np.concatenate([row, silence])
    assert dict(beam(longer, 8)) == pytest.approx(dict(beam(row, 8)))
    assert (align(longer, beam(row, 8)[0][0])[: len(row)] == align(row, beam(row, 8)[0][0])).all()


def test_greedy_answer(decoder: Transcription) -> None:
    path = [0, 2, 2, 0, 2, 1, 3, 3, 3, 0]
    row = np.full((10, 5), np.log(0.025))
    row[np.arange(10), path] = np.log(0.9)
    answer = decoder.answer({"log_probabilities": row}, None)
    assert answer["transcript"] == "aa b"
    assert answer["score"] == pytest.approx(10 * np.log(0.9), abs=1e-5)
    assert "alternatives" not in answer
    assert answer["characters"] == [
        {"character": "a", "start": 0.01, "end": 0.03, "probability": 0.9},
        {"character": "a", "start": 0.04, "end": 0.05, "probability": 0.9},
        {"character": " ", "start": 0.05, "end": 0.06, "probability": 0.9},
        {"character": "b", "start": 0.06, "end": 0.09, "probability": 0.9},
    ]


def test_the_beam_finds_a_text_that_no_single_path_shows(decoder: Transcription) -> None:
    """Blank leads at both positions (0.6 · 0.6), yet the paths of 'a' together weigh more."""
    row = np.log(np.array([[0.6, 1e-9, 0.4, 1e-9, 1e-9]] * 2))
    greedy = decoder.answer({"log_probabilities": row}, None)
    found = decoder.answer({"log_probabilities": row}, 2)
    assert greedy["transcript"] == ""
    assert found["transcript"] == "a"
    assert found["score"] == pytest.approx(np.log(0.64), abs=1e-5)
    assert found["alternatives"] == [
        {"transcript": "a", "score": found["score"]},
        {"transcript": "", "score": pytest.approx(np.log(0.36), abs=1e-5)},
    ]
    assert [one["character"] for one in found["characters"]] == ["a"]  # type: ignore[attr-defined]


def test_silence_is_an_empty_transcript(decoder: Transcription) -> None:
    row = np.tile([0.0, *[-1e4] * len(LETTERS)], (50, 1))
    for top_k in (None, 3):
        answer = decoder.answer({"log_probabilities": row}, top_k)
        assert answer["transcript"] == ""
        assert answer["characters"] == []
        assert answer["score"] == 0.0


def test_what_is_no_number_fails(decoder: Transcription) -> None:
    with pytest.raises(InferenceFailed, match="not a number"):
        decoder.answer({"log_probabilities": np.full((3, 5), np.nan)}, None)


def test_an_alphabet_of_another_size_is_an_invalid_artifact(decoder: Transcription) -> None:
    with pytest.raises(InvalidArtifact, match="gives 9 letters"):
        decoder.proof({"log_probabilities": np.zeros((3, 9))})
