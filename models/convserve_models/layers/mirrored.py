"""Asking a network twice: about an image and about its mirror image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mirrored(nn.Module):
    """A network of images `[N, C, H, W]` which, once trained, answers with the mean of both logits.

    In training it is the network alone. Answering costs twice as much.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Run images and mirror images as one batch."""
        if self.training:
            logits: Tensor = self.network(images)
            return logits
        both: Tensor = self.network(torch.cat([images, images.flip(3)]))
        return both.view(2, -1, *both.shape[1:]).mean(0)
