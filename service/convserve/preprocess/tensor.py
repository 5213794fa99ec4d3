"""Models without byte work: their tensors come ready made, over the Open Inference Protocol."""

from typing import NoReturn

from convserve.errors import UnsupportedMedia
from convserve.manifest import Manifest
from convserve.settings import Settings


class TensorPreprocess:
    """Refuses raw bytes."""

    def __init__(self, manifest: Manifest, settings: Settings) -> None:
        self._id = manifest.id

    def peek(self, data: bytes) -> NoReturn:
        """Say how to ask instead."""
        raise UnsupportedMedia(f"{self._id} takes tensors only: POST /v2/models/{self._id}/infer")
