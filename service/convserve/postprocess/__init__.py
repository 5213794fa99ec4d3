"""Arrays → answer: one module per kind, found through this table."""

from collections.abc import Callable

from convserve.manifest import Manifest
from convserve.postprocess.classification import Classification
from convserve.postprocess.tensors import Tensors
from convserve.postprocess.transcription import Transcription

Postprocess = Classification | Transcription | Tensors
KINDS: dict[str, Callable[[Manifest], Postprocess]] = {
    "classification": Classification,
    "transcription": Transcription,
    "tensors": Tensors,
}


def build(manifest: Manifest) -> Postprocess:
    """Return the postprocessing that `manifest` states."""
    return KINDS[manifest.postprocess.kind](manifest)
