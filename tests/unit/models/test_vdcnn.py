"""VDCNN against its paper's table, and the poolings and columns it is made of."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convserve_models import graph
from convserve_models.alphabet import CREPE, SPACED
from convserve_models.arithmetic import Embedding, KMaxPooling, LayerError, Row, pyramid
from convserve_models.layers.pooling import KMaxPool1d
from convserve_models.layers.symbols import Symbols
from convserve_models.pyramid import pyramid_of
from convserve_models.zoo.vdcnn import VDCNN, Halving

PARAMETERS = {9: 14_178_100, 17: 16_272_820, 29: 16_644_916, 49: 19_777_204}
PER_LEVEL = {9: [2, 2, 2, 2], 17: [4, 4, 4, 4], 29: [10, 10, 4, 4], 49: [16, 16, 10, 6]}
HALVINGS: list[Halving] = ["convolution", "k_max", "max"]


def rows_of(depth: int, halving: Halving = "max") -> list[Row]:
    with torch.device("meta"):
        model = VDCNN(4, depth, halving=halving)
        return pyramid_of(model, torch.zeros(1, 1024, dtype=torch.int64))


@pytest.mark.parametrize("halving", HALVINGS)
@pytest.mark.parametrize("depth", PARAMETERS)
def test_each_depth_has_its_convolutions_and_parameters(depth: int, halving: Halving) -> None:
    rows = rows_of(depth, halving)
    assert sum(row.parameters for row in rows) == PARAMETERS[depth]
    features = [row.shape[0] for row in rows if row.kind == "convolution"]
    assert len(features) == depth
    assert [features[1:].count(n) for n in (64, 128, 256, 512)] == PER_LEVEL[depth]


@pytest.mark.parametrize(
    ("depth", "gigaflops"), [(9, 0.610), (17, 1.365), (29, 1.818), (49, 3.278)]
)
def test_each_depth_costs_the_same_however_it_halves(depth: int, gigaflops: float) -> None:
    costs = {sum(row.macs for row in rows_of(depth, halving)) for halving in HALVINGS}
    assert len(costs) == 1
    assert 2e-9 * costs.pop() == pytest.approx(gigaflops, abs=5e-4)


@pytest.mark.parametrize("halving", HALVINGS)
def test_positions_are_halved_three_times_and_eight_are_kept(halving: Halving) -> None:
    lengths = [row.shape[1] for row in rows_of(9, halving) if row.kind != "linear"]
    assert list(dict.fromkeys(lengths)) == [1024, 512, 256, 128, 8]


def small(depth: int, halving: Halving) -> VDCNN:
    """With shortcuts, for an odd length: the three ways to halve it must agree and fit them."""
    torch.manual_seed(0)
    return VDCNN(
        3, depth, 75, width=0.0625, halving=halving, shortcuts=True, hidden=8, bias=False
    )  # fmt: skip


@pytest.mark.parametrize("halving", HALVINGS)
@pytest.mark.parametrize("depth", PARAMETERS)
def test_every_parameter_of_every_variant_gets_a_gradient(depth: int, halving: Halving) -> None:
    model = small(depth, halving)
    logits = model(VDCNN.example(4, length=75))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("halving", HALVINGS)
def test_every_halving_exports(halving: Halving, tmp_path: Path) -> None:
    check_export(small(9, halving).eval(), VDCNN.example(5, length=75), tmp_path)


def test_a_shortcut_needs_no_projection_where_the_shapes_agree() -> None:
    plain, short = VDCNN(4), VDCNN(4, shortcuts=True)
    extra = sum(p.numel() for p in short.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512)))


@settings(deadline=None)
@given(length=st.integers(1, 200), k=st.integers(1, 12))
def test_too_short_a_text_is_refused(length: int, k: int) -> None:
    with torch.device("meta"):
        shortest = 8 * (k - 1) + 1
        if length < shortest:
            with pytest.raises(ValueError, match=f"^length: .* at least {shortest}$"):
                VDCNN(4, length=length, k=k)
        else:
            model = VDCNN(4, length=length, k=k).eval()
            assert model(VDCNN.example(1, length)).shape == (1, 4)


def test_the_spaced_alphabet_has_every_symbol_once() -> None:
    assert set(SPACED) == {*CREPE, " "}
    assert len(SPACED) == len(set(SPACED)) == 70


@st.composite
def maps(draw: st.DrawFn) -> Tensor:
    """Few different values: ties are the rule, as behind a ReLU."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12)))
    count = shape[0] * shape[1] * shape[2]
    values = draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


@given(maps(), st.data())
def test_k_max_keeps_the_largest_values_in_their_order(values: Tensor, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, values.shape[-1]))
    kept = KMaxPool1d(k)(values)
    for channel, found in zip(values.flatten(0, 1), kept.flatten(0, 1), strict=True):
        numbers = channel.tolist()
        ranked = sorted(range(len(numbers)), key=lambda i: (-numbers[i], i))
        assert found.tolist() == [numbers[i] for i in sorted(ranked[:k])]


@given(maps())
def test_k_max_of_one_is_the_maximum_and_of_all_the_input(values: Tensor) -> None:
    assert torch.equal(KMaxPool1d(1)(values), values.amax(-1, keepdim=True))
    assert torch.equal(KMaxPool1d(values.shape[-1])(values), values)


def test_k_max_breaks_ties_alike_in_onnx(tmp_path: Path) -> None:
    torch.manual_seed(0)
    check_export(KMaxPool1d(8), torch.relu(torch.randn(64, 16, 36) - 1.5), tmp_path, atol=0)


def test_columns_are_the_embeddings_of_the_ids() -> None:
    symbols = Symbols(5, 3)
    ids = torch.tensor([[4, 0, 4, 1]])
    assert torch.equal(symbols(ids)[0].T, symbols.weight[ids[0]])


def test_the_rows_of_columns_and_of_k_max() -> None:
    network = nn.Sequential(Symbols(9, 4), nn.Conv1d(4, 6, 3), KMaxPool1d(5), nn.Conv1d(6, 2, 2))
    first, conv, kmax, last = pyramid_of(network, torch.zeros(1, 22, dtype=torch.int64))
    assert (first.kind, first.shape, first.parameters, first.macs) == (
        Embedding.kind, (4, 22), 36, 0,
    )  # fmt: skip
    assert (first.receptive_field, conv.receptive_field) == ((1,), (3,))
    assert (kmax.kind, kmax.shape, kmax.kernel) == (KMaxPooling.kind, (6, 5), (20,))
    assert kmax.receptive_field == last.receptive_field == (22,)
    assert (kmax.jump, kmax.start) == ((4.0,), (2.5,))  # evenly spread over 20 positions
    assert (kmax.parameters, kmax.macs) == (0, 0)


def test_k_max_of_too_few_positions_or_two_axes_is_refused() -> None:
    with pytest.raises(LayerError, match="the smallest size that fits is 8"):
        pyramid([KMaxPooling(name="k", k=8)], (4, 7))
    with pytest.raises(LayerError, match="k has 1 axes, the input has 2"):
        pyramid([KMaxPooling(name="k", k=2)], (4, 7, 7))


def check_export(module: nn.Module, inputs: Tensor, folder: Path, atol: float = 1e-4) -> None:
    graph.write(module, inputs[:2], folder / "model.onnx", "inputs", "outputs")
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"inputs": inputs.numpy()})
    np.testing.assert_allclose(found, module(inputs).detach().numpy(), atol=atol, rtol=1e-5)
