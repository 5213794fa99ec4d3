"""QRNN: the three forms of its recurrence, its layers against the paper, and what padding does."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from convserve_models import card, graph, network
from convserve_models.layers import pairs
from convserve_models.layers.quasi import (
    LongShortTerm,
    Pooling,
    QuasiRecurrent,
    QuasiRecurrentStack,
)
from convserve_models.layers.recurrence import doubled, recurrence, stepwise
from convserve_models.layers.words import HashedWords
from convserve_models.tasks import reading
from convserve_models.zoo.qrnn import QRNN
from convserve_models.zoo.word_model import WordModel

POOLINGS: list[Pooling] = ["f", "fo", "ifo"]
IDS = st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=20)


class Recurrence(nn.Module):
    def forward(self, kept: Tensor) -> Tensor:
        return recurrence(kept, 1 - kept)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 99))
def test_doubling_and_the_loop_are_the_definition_and_have_its_gradients(
    length: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    kept = torch.rand(2, 3, length, generator=random, requires_grad=True)
    added = torch.randn(2, 3, length, generator=random, requires_grad=True)
    weight = torch.randn(2, 3, length, generator=random)
    expected = _defined(kept, added)
    wanted = torch.autograd.grad((expected * weight).sum(), (kept, added))
    for form in (doubled, stepwise):
        found = form(kept, added)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        gradients = torch.autograd.grad(
            (found * weight).sum(), (kept, added), materialize_grads=True
        )
        for gradient, of in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(gradient, of, atol=1e-4, rtol=1e-4)


def _defined(kept: Tensor, added: Tensor) -> Tensor:
    state, states = torch.zeros_like(added[..., 0]), []
    for f, x in zip(kept.unbind(-1), added.unbind(-1), strict=True):
        state = f * state + x
        states.append(state)
    return torch.stack(states, -1)


def test_one_exported_scan_is_the_loop_at_any_length(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    graph.write(Recurrence(), torch.rand(2, 3, 9), path, "kept", "states")
    assert [node.op_type for node in onnx.load(path).graph.node].count("Scan") == 1
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    kept = torch.rand(5, 3, 9)
    (found,) = session.run(None, {"kept": kept.numpy()})
    np.testing.assert_allclose(found, stepwise(kept, 1 - kept).numpy(), atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 99))
def test_pairs_of_positions_convolve_and_recur_like_single_ones(length: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, length, generator=random)
    assert torch.equal(pairs.joined(pairs.paired(maps), length), maps)
    weight, bias = torch.randn(5, 3, 2, generator=random), torch.randn(5, generator=random)
    found = pairs.joined(pairs.convolved(pairs.paired(maps), weight, bias), length)
    expected = F.conv1d(F.pad(maps, (1, 0)), weight, bias)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    states = pairs.recurrence(pairs.paired(maps.sigmoid()), pairs.paired(maps))
    expected = stepwise(maps.sigmoid(), maps)
    torch.testing.assert_close(pairs.joined(states, length), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("pooling", [*POOLINGS, "lstm"])
def test_an_exported_network_is_the_trained_one_with_any_padding(
    pooling: str, window: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    arguments = QRNN.tiny | {"pooling": pooling, "window": window, "zoneout": 0.1}
    network, path = QRNN(**arguments).eval(), tmp_path / "model.onnx"
    graph.write(network, QRNN.example(2)[:, :9], path, "ids", "logits", any_length=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = QRNN.example(5)
    for given_ids in (ids, ids[:, :-1], F.pad(ids, (0, 9)), F.pad(ids, (9, 0))):
        (found,) = session.run(None, {"ids": given_ids.numpy()})
        np.testing.assert_allclose(found, network(given_ids).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("window", [1, 2, 4])
def test_a_layer_computes_the_papers_equations(pooling: Pooling, window: int) -> None:
    torch.manual_seed(0)
    layer = QuasiRecurrent(5, 3, window, pooling).eval()
    assert sum(p.numel() for p in layer.parameters()) == 3 * (1 + len(pooling)) * (5 * window + 1)
    columns, length = torch.randn(1, 5, 8), 8
    weight, bias = layer.gates.weight, layer.gates.bias
    assert bias is not None
    state = torch.zeros(3)
    for t in range(length):
        seen = [columns[0, :, t - back] if t >= back else torch.zeros(5) for back in range(window)]
        gates = sum((weight[:, :, -1 - back] @ x for back, x in enumerate(seen)), bias)
        candidate, *rest = gates.view(-1, 3)
        gate = {name: values.sigmoid() for name, values in zip(pooling, rest, strict=True)}
        admitted = gate["i"] if pooling == "ifo" else 1 - gate["f"]
        state = gate["f"] * state + admitted * candidate.tanh()
        expected = state if pooling == "f" else gate["o"] * state
        found = layer(columns, torch.ones(1, 1, length))[0, :, t]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_an_lstm_is_torchs_and_its_products_are_counted() -> None:
    torch.manual_seed(0)
    layer, length = LongShortTerm(5, 3), 8
    of_input, of_state = layer.weights()
    assert of_input[:, -1].tolist() == [0] * 3 + [1] * 3 + [0] * 6
    columns, mask = torch.randn(2, 5, length), torch.ones(2, 1, length)
    state = torch.zeros(2, 3), torch.zeros(2, 3)
    cell = nn.LSTMCell(5, 3)
    with torch.no_grad():
        cell.weight_ih.copy_(of_input[:, :-1])
        cell.bias_ih.copy_(of_input[:, -1])
        cell.weight_hh.copy_(of_state)
        cell.bias_hh.zero_()
    found = layer(columns, mask)
    for t in range(length):
        state = cell(columns[..., t], state)
        torch.testing.assert_close(found[..., t], state[0], atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        small, large = (
            card.counted_macs(QRNN(**QRNN.tiny, pooling="lstm"), torch.ones(1, n).long())
            for n in (7, 8)
        )
    assert large - small == 2 * 4 * 6 * ((8 + 1 + 6) + (8 + 6 + 1 + 6))


def test_zoneout_keeps_states_in_training_and_their_average_in_evaluation() -> None:
    torch.manual_seed(0)
    layer = QuasiRecurrent(2, 4, 1, "f", zoneout=0.3)
    columns, mask = torch.randn(1, 2, 1), torch.ones(1, 1, 1)
    with torch.no_grad():
        drawn = layer(columns.expand(20_000, 2, 1), mask)
        usual = layer.eval()(columns, mask)
    assert (drawn == 0).float().mean() == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(drawn.mean(0, keepdim=True), usual, atol=0.01, rtol=0.05)


def test_dense_layers_read_all_that_was_written_before() -> None:
    stack = QuasiRecurrentStack(7, 5, 3, 2, "fo", dense=True)
    assert _read(stack) == [7, 12, 17]
    assert stack(torch.randn(2, 7, 6), torch.ones(2, 1, 6)).shape == (2, stack.outputs, 6)
    assert stack.outputs == 15
    plain = QuasiRecurrentStack(7, 5, 3, 2, "fo", dense=False)
    assert _read(plain) == [7, 5, 5]
    assert plain(torch.randn(2, 7, 6), torch.ones(2, 1, 6)).shape == (2, plain.outputs, 6)


def _read(stack: QuasiRecurrentStack) -> list[int]:
    return [part.in_channels for part in stack.modules() if isinstance(part, nn.Conv1d)]


@pytest.mark.parametrize("pooling", ["fo", "lstm"])
@settings(deadline=None, max_examples=50)
@given(IDS, IDS, st.integers(0, 9))
def test_a_text_is_read_alike_alone_and_in_any_batch(
    pooling: str, text: list[int], neighbour: list[int], padding: int
) -> None:
    torch.manual_seed(0)
    network = QRNN(**QRNN.tiny, pooling=pooling).eval()
    batch = torch.zeros(2, max(len(text), len(neighbour)) + padding, dtype=torch.int64)
    batch[0, : len(text)] = torch.tensor(text)
    batch[1, : len(neighbour)] = torch.tensor(neighbour)
    alone = network(torch.tensor([text]))
    torch.testing.assert_close(network(batch)[:1], alone, atol=1e-6, rtol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
def test_any_integer_is_a_word_and_only_zero_is_none(ids: list[int]) -> None:
    words = HashedWords(16, 3, dropped=0.0)
    columns, mask = words(torch.tensor([ids]))
    assert mask[0, 0].tolist() == [float(i != 0) for i in ids]
    assert [bool(column.any()) for column in columns[0].T] == [i != 0 for i in ids]


def test_words_that_share_one_row_differ() -> None:
    words = HashedWords(16, 3, dropped=0.0)
    columns, _ = words(torch.tensor([[5, 5 + 16]]))
    assert not torch.equal(columns[..., 0], columns[..., 1])


def test_a_word_model_sees_no_word_that_it_predicts() -> None:
    torch.manual_seed(0)
    model = WordModel(**WordModel.tiny).eval()
    ids = WordModel.example(1)[:, :6].clamp(min=1)
    _, (onward, back), _ = model.reader(ids)
    for changed in range(6):
        other = ids.clone()
        other[0, changed] += 1
        _, (onward_other, back_other), _ = model.reader(other)
        torch.testing.assert_close(onward[..., :changed], onward_other[..., :changed])
        torch.testing.assert_close(back[..., changed + 1 :], back_other[..., changed + 1 :])
        assert not torch.equal(onward[..., changed], onward_other[..., changed])


def test_a_word_model_learns_which_word_follows() -> None:
    torch.manual_seed(0)
    model = WordModel(**WordModel.tiny)
    ids = torch.arange(1, 6).repeat(4).expand(8, -1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.03)
    for _ in range(100):
        optimiser.zero_grad()
        loss = reading.loss(model(ids), torch.zeros(8), 0.0)
        loss.backward()
        optimiser.step()
    assert loss < 0.5 < np.log(5)
    (figure,) = reading.figures(model(ids).detach().numpy(), np.zeros(8, np.int64), "test")
    assert figure.value == pytest.approx(loss.item(), abs=0.1)


def test_a_classifier_starts_from_what_the_word_model_has_learned(tmp_path: Path) -> None:
    reader = nn.Sequential(WordModel(**WordModel.tiny))
    torch.save({"model": reader.state_dict()}, tmp_path / "checkpoint.pt")
    classifier = nn.Sequential(QRNN(**QRNN.tiny))
    fresh = dict(classifier.state_dict())
    network.adopt(classifier, tmp_path / "checkpoint.pt")
    learned = reader.state_dict()
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, learned[name] if "reader" in name else fresh[name]), name
