"""Raw bytes → arrays: one module per modality, found through this table."""

from collections.abc import Callable

import numpy as np
import PIL
import soundfile
from PIL import features

from convserve.manifest import Manifest
from convserve.preprocess.audio import AudioPreprocess
from convserve.preprocess.cepstra import CepstraPreprocess
from convserve.preprocess.image import ImagePreprocess
from convserve.preprocess.prepared import Preprocess
from convserve.preprocess.tensor import TensorPreprocess
from convserve.preprocess.text import TextPreprocess
from convserve.settings import Settings

MODALITIES: dict[str, Callable[[Manifest, Settings], Preprocess]] = {
    "image": ImagePreprocess,
    "text": TextPreprocess,
    "audio": AudioPreprocess,
    "cepstra": CepstraPreprocess,
    "tensor": TensorPreprocess,
}


def build(manifest: Manifest, settings: Settings) -> Preprocess:
    """Return the preprocessing that `manifest` states; InvalidArtifact if it cannot work."""
    return MODALITIES[manifest.preprocess.modality](manifest, settings)


def libraries() -> tuple[str, ...]:
    """Return the versions of what decodes and computes: they decide what `build` returns does."""
    codecs = (features.version(codec) or "" for codec in ("jpg", "zlib", "webp", "libtiff"))
    sounds = soundfile.__libsndfile_version__
    return (PIL.__version__, *codecs, sounds, np.__version__)
