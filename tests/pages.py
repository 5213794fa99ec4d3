"""Pages of the documentation as tests read them: what to run, and what it shows."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```\n(?:```(?:json|text)\n(.*?)^```)?", re.M | re.S)
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)")
RUN = {"sh", "python"}
CLIENTS = ("import", "perf_analyzer")
"""How the code begins that needs NVIDIA's clients: make conformance runs it."""


@dataclass(frozen=True)
class Block:
    """Something to run, and what the page shows of its output."""

    language: str
    code: str
    shown: str


def blocks(page: str) -> list[Block]:
    """Return what a page of docs/ tells its reader to run, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = [Block(*(part or "" for part in match)) for match in FENCED.findall(text)]
    return [block for block in found if block.language in RUN]


def assert_shown(shown: str, output: str) -> None:
    """Assert that an output is what is shown; white space is free, and so is the third decimal."""
    expected, actual = (NUMBER.split("".join(text.split())) for text in (shown, output))
    assert actual[::2] == expected[::2]
    for one, other in zip(expected[1::2], actual[1::2], strict=True):
        assert abs(float(one) - float(other)) < 0.002, (one, other)
