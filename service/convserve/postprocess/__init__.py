"""Arrays → answer: one module per kind, found through this table."""

from collections.abc import Callable

from convserve.artifact import Manifest
from convserve.postprocess.classification import Classification

KINDS: dict[str, Callable[[Manifest], Classification]] = {"classification": Classification}


def build(manifest: Manifest) -> Classification:
    """Return the postprocessing that `manifest` states."""
    return KINDS[manifest.postprocess.kind](manifest)
