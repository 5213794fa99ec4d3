"""Text → ids, as the steps of the manifest say (kernels: docs/api.md)."""

import re
from collections.abc import Callable
from functools import partial
from itertools import islice
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from convserve.artifact import Characters, Manifest, Step, Words
from convserve.errors import InvalidArtifact, InvalidInput
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
    """The `words` step: a word's id is the CRC-32 of its UTF-8, so that none is unknown."""

    def __init__(self, step: Words) -> None:
        self._length = step.length

    def __call__(self, text: str) -> tuple[NDArray[np.int64], Facts]:
        """Return ids [n], n ≤ length."""
        words = [found[0] for found in islice(WORD.finditer(text), self._length + 1)]
        ids = [crc32(word.encode()) or 1 for word in words[: self._length]]
        facts: Facts = {"truncated": len(words) > self._length, "unknown_characters": 0}
        return np.array(ids, np.int64), facts


class TextPreprocess:
    """UTF-8 text → {input: int64 ids}; tells `truncated` and `unknown_characters`."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        *before, last = manifest.preprocess.steps
        if any(step.op not in STEPS for step in before):
            raise _cannot_work()
        self._before = [STEPS[step.op] for step in before]
        self._ids = _reader(last)
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


def _reader(step: Step) -> Alphabet | Hashes:
    if isinstance(step, Characters):
        return Alphabet(step)
    if isinstance(step, Words):
        return Hashes(step)
    raise _cannot_work()


def _cannot_work() -> InvalidArtifact:
    return InvalidArtifact(
        "preprocess.steps of a text model must end with characters or words, the only ones that "
        "make arrays",
        f"use {', '.join(STEPS)} and then, once, characters or words",
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
