"""The character CNN's first layer: the paper's one-hot columns, made of ids inside the network."""

import torch
from torch import Tensor, nn

from convserve_models.zoo.char_cnn import CharCNN


def first_layer() -> tuple[CharCNN, nn.Conv1d]:
    torch.manual_seed(0)
    model = CharCNN(**CharCNN.tiny).eval()
    layer = model.features[0]
    assert isinstance(layer, nn.Conv1d)
    return model, layer


def answered(model: CharCNN, layer: nn.Conv1d, ids: Tensor) -> Tensor:
    """What the first convolution answers to ids `[N, L]`."""
    answers: list[Tensor] = []
    handle = layer.register_forward_hook(lambda *call: answers.append(call[-1]))
    model(ids)
    handle.remove()
    return answers[0]


def test_a_convolution_over_one_hot_columns_sums_a_row_for_each_tap() -> None:
    model, layer = first_layer()
    ids = CharCNN.example(2, CharCNN.tiny["length"])
    unknown = torch.zeros(1, layer.out_channels)
    (taps,) = layer.kernel_size
    rows = [torch.cat([unknown, layer.weight[:, :, tap].T]) for tap in range(taps)]
    length = ids.shape[1] - taps + 1
    summed = torch.stack([row[ids[:, tap : tap + length]] for tap, row in enumerate(rows)]).sum(0)
    torch.testing.assert_close(answered(model, layer, ids), summed.transpose(1, 2))


def test_an_unknown_character_is_a_column_of_zeros() -> None:
    model, layer = first_layer()
    unknown = torch.zeros(1, CharCNN.tiny["length"], dtype=torch.int64)
    assert not answered(model, layer, unknown).any()
