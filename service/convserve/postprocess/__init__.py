"""Arrays → answer: one module per kind, found through this table."""

from collections.abc import Callable

from convserve.artifact import Manifest
from convserve.postprocess.classification import Classification
from convserve.postprocess.tensors import Tensors

Postprocess = Classification | Tensors
KINDS: dict[str, Callable[[Manifest], Postprocess]] = {
    "classification": Classification,
    "tensors": Tensors,
}


def build(manifest: Manifest) -> Postprocess:
    """Return the postprocessing that `manifest` states."""
    return KINDS[manifest.postprocess.kind](manifest)
