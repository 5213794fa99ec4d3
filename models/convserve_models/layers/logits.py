"""The last layer of a classifier."""

from __future__ import annotations

from typing import Any

from torch import nn


class Logits(nn.Linear):
    """Starts near zero.

    Large first logits teach the layers before it to fall silent, before the features say anything:
    on AG News the loss of VDCNN then stays where guessing is.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.start()

    def start(self) -> None:
        """Set the first values."""
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)


def he(module: nn.Module) -> None:
    """First values of a network of rectifiers: He et al., 1502.01852; for `nn.Module.apply`."""
    if isinstance(module, Logits):
        module.start()
    elif isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
