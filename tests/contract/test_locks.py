"""The requirement locks: versions and hashes only, no torch, in step with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOREIGN = sorted(path.stem for path in (ROOT / "requirements").glob("*.in"))
GROUPS = {
    "serve": [],
    "train": ["train"],
    "dev": ["train", "dev"],
    "objects": ["s3", "gcs"],
    "store-test": ["s3", "store-test"],
    "ray": ["ray"],
}


def lock(group: str) -> dict[str, list[Requirement]]:
    """Return name -> pinned requirements (one for each environment marker)."""
    text = (ROOT / "requirements" / f"{group}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    pins: dict[str, list[Requirement]] = {}
    for line in lines:
        pin, *hashes = re.split(r"\s+--hash=", line)
        assert hashes, f"{group}: {pin} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", digest) for digest in hashes), line
        requirement = Requirement(pin.strip())
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), f"{group}: {pin} is no pin"
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def declared(group: str) -> list[Requirement]:
    if group in FOREIGN:
        text = (ROOT / "requirements" / f"{group}.in").read_text()
        return [Requirement(line) for line in text.splitlines() if not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in GROUPS[group]:
        lines += project["optional-dependencies"][extra]
    return [r for r in map(Requirement, lines) if r.name != project["name"]]


@pytest.mark.parametrize("group", [*GROUPS, *FOREIGN])
def test_a_lock_names_no_torch_and_no_address(group: str) -> None:
    text = (ROOT / "requirements" / f"{group}.txt").read_text()
    assert "torch" not in lock(group)
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash)|^-", text, flags=re.MULTILINE)


@pytest.mark.parametrize("group", [*GROUPS, *FOREIGN])
def test_a_lock_meets_what_is_asked(group: str) -> None:
    pins = lock(group)
    for requirement in declared(group):
        assert canonicalize_name(requirement.name) in pins, f"{requirement}: run `make lock`"
        for pin in pins[canonicalize_name(requirement.name)]:
            version = str(pin.specifier).removeprefix("==")
            assert version in requirement.specifier, f"{requirement}: run `make lock`"


def test_the_groups_agree_on_every_version() -> None:
    pins = {
        group: {
            name: sorted(str(p.specifier) for p in found) for name, found in lock(group).items()
        }
        for group in GROUPS
    }
    serve = pins["serve"].items()
    assert serve <= pins["train"].items() <= pins["dev"].items()
    assert all(serve <= pins[group].items() for group in ("objects", "store-test", "ray"))
