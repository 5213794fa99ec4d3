"""Word CNN: Kim, *Convolutional Neural Networks for Sentence Classification*, arXiv 1408.5882.

Filters of several widths slide over the words' columns; the largest value of each, over the whole
text, is classified. Here the columns' largest values and their scaled sum are classified too, words
come as hashes, and a table of n-grams (`layers.ngrams`), fitted apart, may add its evidence: it
knows rare words and pairs that the filters cannot learn from so few texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convserve_models.layers.logits import Logits
from convserve_models.layers.ngrams import Ngrams
from convserve_models.layers.words import HashedWords


class WordCNN(nn.Module):
    """Logits `[N, labels]` of hashes of words `int64 [N, length]`, 0 = nothing.

    In training the answer is the filters' alone, in evaluation the evidence of `ngrams` rows is
    added to it. The paper's form has filters of widths 3, 4 and 5 over 300 columns.
    """

    paper = "https://arxiv.org/abs/1408.5882"
    fully_convolutional = False
    variable_length = True
    paper_arguments: ClassVar[dict[str, Any]] = {
        "labels": 2, "rows": 16384, "columns": 300, "features": 100, "widths": (3, 4, 5),
    }  # fmt: skip
    paper_parameters = 5_277_302
    tiny: ClassVar[dict[str, Any]] = {
        "labels": 4, "rows": 64, "columns": 8, "features": 6, "ngrams": 32,
    }  # fmt: skip

    def __init__(
        self,
        labels: int,
        rows: int,
        columns: int,
        features: int,
        widths: Sequence[int] = (2, 3, 4),
        dropout: float = 0.5,
        dropped_words: float = 0.0,
        ngrams: int = 0,
    ) -> None:
        super().__init__()
        self.words = HashedWords(rows, columns, dropped_words)
        self.filters = nn.ModuleList(nn.Conv1d(columns, features, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.classifier = Logits(2 * columns + features * len(widths), labels)
        self.ngrams = Ngrams(ngrams, labels) if ngrams else None

    @staticmethod
    def example(n: int, **_: Any) -> Tensor:
        """Random hashes of texts of 20 words at most."""
        lengths = torch.randint(1, 21, (n, 1))
        return torch.randint(1, 2**32, (n, 20)) * (torch.arange(20) < lengths)

    def forward(self, ids: Tensor) -> Tensor:
        """Classify what was strongest, and add the evidence of the n-grams."""
        columns, mask = self.words(ids)
        parts = [columns.sum(-1) / mask.sum(-1).clamp(min=1).sqrt()]
        parts += [columns.masked_fill(mask == 0, -9).amax(-1)]
        for part in self.filters:
            assert isinstance(part, nn.Conv1d)
            past = F.pad(columns, (part.kernel_size[0] - 1, 0))  # each filter ends at a word
            parts += [(torch.relu(part(past)) * mask).amax(-1)]
        logits: Tensor = self.classifier(self.dropout(torch.cat(parts, 1)))
        if self.training or self.ngrams is None:
            return logits
        evidence: Tensor = self.ngrams(ids)
        return logits + evidence
