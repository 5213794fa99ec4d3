"""What the documentation names exists: files, verbs, settings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convserve.settings import PREFIX, variables

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "loadtests/*.md") for page in ROOT.glob(pattern)
)
VERBS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


@pages
def test_the_make_verbs_it_names_exist(page: Path) -> None:
    # `make` where a command begins: not the package of that name in an apt-get line.
    command = r"(?:^|`|&& |=\S+ )make(?: [A-Z_]+=\S+)* ([a-z][a-z-]*)"
    assert set(re.findall(command, _code(page), flags=re.MULTILINE)) <= VERBS


@pages
def test_the_settings_it_names_exist(page: Path) -> None:
    assert set(re.findall(PREFIX + r"[A-Z][A-Z_]*[A-Z]", page.read_text())) <= variables()


def test_make_lists_its_verbs() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL"}}
    listed = subprocess.run(
        ["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[1] for line in listed.splitlines()} == VERBS


def test_generated_parts_are_current() -> None:
    check = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run `make docs`"


def _code(page: Path) -> str:
    text = page.read_text()
    blocks = re.findall(r"^```.*?^```", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`[^`\n]+`", text)])
