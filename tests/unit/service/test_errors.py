import re

import pytest

from convserve import errors
from convserve.errors import (
    CapacityError,
    ConvserveError,
    InvalidArtifact,
    InvalidInput,
    QueueFull,
)


def lineage(kind: type[ConvserveError], depth: int = 0) -> list[tuple[int, str]]:
    """The tree below `kind` in order of definition, as (depth, name)."""
    children = [row for child in kind.__subclasses__() for row in lineage(child, depth + 1)]
    return [(depth, kind.__name__), *children]


def leaves(kind: type[ConvserveError] = ConvserveError) -> list[type[ConvserveError]]:
    children = kind.__subclasses__()
    return [leaf for child in children for leaf in leaves(child)] if children else [kind]


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    assert [(len(indent) // 4, name) for indent, name in drawn] == lineage(ConvserveError)


@pytest.mark.parametrize("kind", leaves())
def test_a_code_is_the_snake_case_of_the_name(kind: type[ConvserveError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert kind.code.title().replace("_", "") == kind.__name__
    assert kind.blame in {"caller", "capacity", "model"}


@pytest.mark.parametrize("kind", leaves(CapacityError))
def test_a_capacity_error_may_say_when_to_come_back(kind: type[CapacityError]) -> None:
    assert kind("later", 1.5).retry_after == 1.5
    assert kind("later").retry_after is None


def test_detail_is_what_people_read() -> None:
    assert str(QueueFull("full", 0.1)) == QueueFull("full").detail == "full"
    assert InvalidInput("bad", pointer="/instances/0").pointer == "/instances/0"
    artifact = InvalidArtifact("no labels", "add `labels` to the manifest")
    assert str(artifact) == "no labels; add `labels` to the manifest"
    assert artifact.detail == "no labels"
