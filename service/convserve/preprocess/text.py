"""Text → ids, as the steps of the manifest say (kernels: docs/api.md)."""

import re
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import islice, takewhile
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from convserve.errors import InvalidArtifact, InvalidInput
from convserve.manifest import Characters, Manifest, Pad, Step, Words
from convserve.preprocess.prepared import SMALL, Pending, Prepared
from convserve.settings import Settings

Facts = dict[str, object]

WORD = re.compile(r"\w+|[^\w\s]")
STEPS: dict[str, Callable[[str], str]] = {"lowercase": str.lower}
BLANK = -1
CHARACTER = 4  # bytes that one may take once it is decoded
LAST_SPACE = 0x3000  # Unicode has no white space beyond the ideographic space


class Alphabet:
    """The `characters` step: one lookup per character, by code point."""

    def __init__(self, step: Characters) -> None:
        self._length = step.length
        self._order = -1 if step.reverse else 1
        # One place beyond the largest code point that matters stands for all that are larger.
        size = max(LAST_SPACE, *map(ord, step.alphabet)) + 2
        self._ids = np.array([BLANK * chr(code).isspace() for code in range(size)], np.int64)
        for position, character in reversed(list(enumerate(step.alphabet, start=1))):
            self._ids[ord(character)] = position

    def __call__(self, text: str) -> tuple[NDArray[np.int64], Facts]:
        """Return ids [length] and how many characters are unknown, white space aside."""
        kept = text[: self._length].encode("utf-32-le")
        codes = np.minimum(np.frombuffer(kept, np.uint32), len(self._ids) - 1)
        found = self._ids[codes]
        ids = np.zeros(self._length, np.int64)
        ids[: len(found)] = np.maximum(found, 0)[:: self._order]
        unknown = int(np.count_nonzero(found == 0))
        return ids, {"truncated": len(text) > self._length, "unknown_characters": unknown}


class Hashes:
    """The steps `words` and `pad`: ids are the CRC-32 of words' UTF-8, so that none is unknown."""

    def __init__(self, words: Words, pad: Pad) -> None:
        self._length = words.length
        self._buckets = sorted(pad.lengths)

    def __call__(self, text: str) -> tuple[NDArray[np.int64], Facts]:
        """Return ids [bucket]."""
        words = [found[0] for found in islice(WORD.finditer(text), self._length + 1)]
        kept = words[: self._length]
        ids = np.zeros(self._buckets[bisect_left(self._buckets, len(kept))], np.int64)
        ids[: len(kept)] = [crc32(word.encode()) or 1 for word in kept]
        return ids, {"truncated": len(words) > self._length, "unknown_characters": 0}


class TextPreprocess:
    """UTF-8 text → {input: int64 ids}; tells `truncated` and `unknown_characters`."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        steps = manifest.preprocess.steps
        before = list(takewhile(lambda step: step.op in STEPS, steps))
        self._before = [STEPS[step.op] for step in before]
        self._ids = _reader(*steps[len(before) :])
        self._input = manifest.inputs[0].name

    def peek(self, data: bytes) -> Pending:
        """Leave everything for later: a text has no header."""
        return Pending(len(data) > SMALL, len(data) * CHARACTER, partial(self._prepare, data))

    def _prepare(self, data: bytes) -> Prepared:
        text = _decode(data)
        for step in self._before:
            text = step(text)
        ids, facts = self._ids(text)
        return Prepared({self._input: ids}, facts)


def _reader(*steps: Step) -> Alphabet | Hashes:
    match steps:
        case (Characters() as characters,):
            return Alphabet(characters)
        case (Words() as words, Pad() as pad) if max(pad.lengths) >= words.length:
            return Hashes(words, pad)
    raise InvalidArtifact(
        "preprocess.steps of a text model must end with characters, or with words and a pad that "
        "has room for them: only these make arrays",
        f"use {', '.join(STEPS)} and then, once, characters, or words and pad",
    )


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"the text is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}"
        ) from None
    if not text.strip():
        raise InvalidInput("the text is empty")
    return text
