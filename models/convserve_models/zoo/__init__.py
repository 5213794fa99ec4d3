"""One architecture per file. `ARCHITECTURES` is a table of strings, resolved on use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES = {
    "airbench": "convserve_models.zoo.airbench:Airbench",
    "all_cnn": "convserve_models.zoo.all_cnn:AllCNN",
    "char_cnn": "convserve_models.zoo.char_cnn:CharCNN",
    "deep_roots": "convserve_models.zoo.deep_roots:DeepRoots",
    "efficientnet_lite": "convserve_models.zoo.efficientnet_lite:EfficientNetLite",
    "googlenet": "convserve_models.zoo.googlenet:GoogLeNet",
    "qrnn": "convserve_models.zoo.qrnn:QRNN",
    "vdcnn": "convserve_models.zoo.vdcnn:VDCNN",
    "wav2letter": "convserve_models.zoo.wav2letter:Wav2Letter",
    "word_cnn": "convserve_models.zoo.word_cnn:WordCNN",
    "word_model": "convserve_models.zoo.word_model:WordModel",
}


class Architecture(Protocol):
    """What a network's class declares, so that its properties can be tested from the registry."""

    paper: str
    paper_arguments: dict[str, Any]
    """The paper's own form, which is built and counted but not trained here."""
    paper_parameters: int
    tiny: dict[str, Any]
    """A form small enough to train in a test."""
    fully_convolutional: bool
    """Takes any size of input from a smallest one on."""
    variable_length: bool
    """Takes sequences of unequal length in one batch, NaN behind the end of the shorter ones, and
    says of each the same as if it were alone."""

    def __call__(self, **arguments: Any) -> nn.Module:
        """Build the network with fresh weights."""
        ...

    def example(self, n: int, **arguments: Any) -> Any:
        """Random inputs as this form of the network takes them, a batch of n."""
        ...


def architecture(name: str) -> Architecture:
    """Return the class of an architecture; raises `KeyError` that lists the known names."""
    if name not in ARCHITECTURES:
        raise KeyError(f"no architecture {name!r}; known: {', '.join(sorted(ARCHITECTURES))}")
    module, _, attribute = ARCHITECTURES[name].partition(":")
    found: Architecture = getattr(import_module(module), attribute)
    return found
