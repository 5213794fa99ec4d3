"""The pyramid of real networks: found by running them, equal to what the arithmetic says."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convserve_models.arithmetic import (
    Convolution,
    GlobalPooling,
    Join,
    Layer,
    LayerError,
    Linear,
    Normalization,
    Pooling,
    TransposedConvolution,
    pyramid,
)
from convserve_models.pyramid import pyramid_of
from convserve_models.zoo import ARCHITECTURES, architecture

IMAGE = nn.Sequential(
    nn.Conv2d(3, 8, (5, 3), stride=(2, 1), padding=(2, 0)),
    nn.BatchNorm2d(8),
    nn.ReLU(inplace=True),
    nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    nn.Dropout(0.5),
    nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=4, bias=False),
    nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1),
    nn.AvgPool2d(2),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(4, 10),
    nn.Softmax(dim=1),
)
TEXT = nn.Sequential(
    nn.Conv1d(7, 6, 5),
    nn.ReLU(),
    nn.MaxPool1d(3, dilation=2),
    nn.Conv1d(6, 6, 3, padding=2, dilation=2, bias=False),
    nn.BatchNorm1d(6, affine=False),
    nn.AvgPool1d(2, 2),
    nn.ConvTranspose1d(6, 6, 4, stride=2),
    nn.Flatten(),
    nn.Linear(6 * 20, 9),
    nn.BatchNorm1d(9),
    nn.Linear(9, 2, bias=False),
)


def test_the_pyramid_of_an_image_network() -> None:
    assert pyramid_of(IMAGE, torch.zeros(2, 3, 33, 30)) == pyramid(
        [
            Convolution(name="0", channels=8, kernel=(5, 3), stride=(2, 1), padding=(2, 0)),
            Normalization(name="1"),
            Pooling(name="3", kernel=3, stride=2, padding=1, ceil=True),
            Convolution(
                name="5", channels=8, kernel=3, padding="same", dilation=2, groups=4, bias=False
            ),
            TransposedConvolution(
                name="6", channels=4, kernel=3, stride=2, padding=1, output_padding=1
            ),
            Pooling(name="7", kernel=2, operation="average"),
            GlobalPooling(name="8"),
            Linear(name="10", channels=10),
        ],
        (3, 33, 30),
    )


def test_the_pyramid_of_a_text_network() -> None:
    assert pyramid_of(TEXT, torch.zeros(1, 7, 61)) == pyramid(
        [
            Convolution(name="0", channels=6, kernel=5),
            Pooling(name="2", kernel=3, dilation=2),
            Convolution(name="3", channels=6, kernel=3, padding=2, dilation=2, bias=False),
            Normalization(name="4", affine=False),
            Pooling(name="5", kernel=2, operation="average"),
            TransposedConvolution(name="6", channels=6, kernel=4, stride=2),
            Linear(name="8", channels=9),
            Normalization(name="9"),
            Linear(name="10", channels=2, bias=False),
        ],
        (7, 61),
    )


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    """A random chain in one or two dimensions, with activations between; on the meta device."""
    one = draw(st.booleans())
    conv, up = (nn.Conv1d, nn.ConvTranspose1d) if one else (nn.Conv2d, nn.ConvTranspose2d)
    pool: Any = nn.MaxPool1d if one else nn.MaxPool2d
    norm: Any = nn.BatchNorm1d if one else nn.BatchNorm2d
    choices: list[Callable[[int, int], nn.Module]] = [
        lambda k, s: conv(4, 4, k, s, padding=k // 2, groups=2),
        lambda k, s: conv(4, 4, k, dilation=s),
        lambda k, s: up(4, 4, k, s, output_padding=s - 1),
        lambda k, s: pool(k, s, ceil_mode=True),
        lambda k, s: norm(4, affine=s > 1),
    ]
    drawn = st.tuples(st.sampled_from(choices), st.integers(1, 3), st.integers(1, 2))
    forms = draw(st.lists(drawn, min_size=1, max_size=5))
    with torch.device("meta"):
        chain = [part for make, k, s in forms for part in (make(k, s), nn.ReLU())]
        return nn.Sequential(conv(2, 4, 1), *chain, nn.Flatten(), nn.LazyLinear(3))


@settings(max_examples=100, deadline=None)
@given(networks())
def test_a_random_chain_has_its_real_shapes_parameters_and_flops(network: nn.Sequential) -> None:
    # Large enough for five layers that halve and look at five places.
    sizes = (200,) if isinstance(network[0], nn.Conv1d) else (200, 167)
    x = torch.zeros(1, 2, *sizes, device="meta")
    network.eval()(x)
    with FlopCounterMode(display=False) as counter:
        network(x)
    rows = pyramid_of(network, x)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in network.parameters())
    assert 2 * sum(row.macs for row in rows) == counter.get_total_flops()
    named = {row.layer: row for row in rows}
    for name, part in network.named_children():
        x = part(x)
        if name in named:
            assert named[name].shape[: x.dim() - 1] == x.shape[1:]


# Networks of words begin with a table of so many rows, and have as many places as a text has words:
# `card.architecture` states no pyramid of theirs.
DRAWN = [name for name in ARCHITECTURES if "rows" not in architecture(name).tiny]


@pytest.mark.parametrize("name", DRAWN)
def test_every_architecture_has_a_pyramid(name: str) -> None:
    kind = architecture(name)
    for form in (kind.tiny, kind.paper_arguments):
        network, example = kind(**form), kind.example(1, **form)
        rows = pyramid_of(network, example)
        assert sum(row.parameters for row in rows) == sum(p.numel() for p in network.parameters())
        with FlopCounterMode(display=False) as counter:
            network.eval()(example)
        assert 2 * sum(row.macs for row in rows) == counter.get_total_flops()


def average_instead_of_max(network: nn.Module) -> None:
    """The same windows, but with a gradient everywhere."""
    for part in list(network.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(child.kernel_size, child.stride, child.padding)
                part.add_module(name, average)


@pytest.mark.parametrize(
    "name", [name for name in ARCHITECTURES if architecture(name).fully_convolutional]
)
def test_the_field_of_a_fully_convolutional_architecture_is_what_a_gradient_reaches(
    name: str,
) -> None:
    kind = architecture(name)
    network = kind(**kind.tiny).eval()
    for parameter in network.parameters():
        parameter.data.abs_()
    average_instead_of_max(network)
    x = torch.ones_like(kind.example(1, **kind.tiny).repeat(1, 1, 4, 4)).requires_grad_()
    row = [row for row in pyramid_of(network, x) if row.kind == "convolution"][-1]
    maps: list[Tensor] = []
    network.get_submodule(row.layer).register_forward_hook(lambda *args: maps.append(args[2]))
    network(x)
    unit = [size // 2 for size in row.shape[1:]]
    (gradient,) = torch.autograd.grad(maps[0][0, 0, unit[0], unit[1]], x)
    for axis, positions in enumerate(gradient[0].sum(0).nonzero().T):
        first, last = int(positions.min()), int(positions.max())
        assert last - first + 1 == row.receptive_field[axis]
        assert (first + last) / 2 == row.start[axis] + unit[axis] * row.jump[axis]


@pytest.mark.parametrize(("name", "parameters"), [("all_cnn", 1_369_738), ("char_cnn", 11_339_780)])
def test_the_paper_s_form_has_the_paper_s_parameters(name: str, parameters: int) -> None:
    kind = architecture(name)
    form = kind.paper_arguments
    rows = pyramid_of(kind(**form), kind.example(1, **form))
    assert sum(row.parameters for row in rows) == parameters


def test_char_cnn_keeps_the_lengths_that_its_paper_prints() -> None:
    kind = architecture("char_cnn")
    rows = pyramid_of(kind(**kind.paper_arguments), kind.example(1, **kind.paper_arguments))
    lengths = [row.shape[1] for row in rows if row.kind != "linear"]
    assert lengths == [1008, 336, 330, 110, 108, 106, 104, 102, 34]


class Chain(nn.Module):
    """Two convolutions with a function between them."""

    def __init__(self, between: Callable[..., Tensor], answer: Callable[..., Any] = F.relu) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.between, self.answer = between, answer

    def forward(self, x: Tensor) -> Any:
        return self.answer(self.second(self.between(self.first(x))))


X = torch.zeros(1, 4, 12, 12)


@pytest.mark.parametrize(
    "between",
    [F.relu, torch.sigmoid, lambda x: x * torch.sigmoid(x), lambda x: F.relu_(x).mul_(2)],
)
def test_functions_that_keep_the_shape_need_no_row(between: Callable[..., Tensor]) -> None:
    assert [row.layer for row in pyramid_of(Chain(between), X)] == ["first", "second"]


def test_what_comes_before_the_first_layer_is_no_part_of_the_pyramid() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            scaled = torch.stack(list(pixels.permute(0, 3, 1, 2) / 255))
            maps: Tensor = self.conv(F.pad(scaled, (1, 1, 1, 1)))
            return maps

    (row,) = pyramid_of(Scaled(), torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
    assert row.shape == (4, 8, 8)


@pytest.mark.parametrize(
    "mean",
    [
        lambda x: x.mean((2, 3)),
        lambda x: torch.mean(x, dim=(-2, -1), keepdim=True),
        lambda x: x.mean([3, 2]),
    ],
)
def test_a_mean_over_all_positions_is_a_global_pooling(mean: Callable[..., Tensor]) -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3), Function(mean), nn.Flatten(), nn.Linear(6, 2))
    twin = nn.Sequential(nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    rows, expected = pyramid_of(network, X), pyramid_of(twin, X)
    assert [(row.kind, row.shape, row.kernel) for row in rows] == [
        (row.kind, row.shape, row.kernel) for row in expected
    ]


def test_a_mean_of_the_input_is_no_layer() -> None:
    centred = Function(lambda x: x - x.mean((2, 3), keepdim=True))
    assert [row.layer for row in pyramid_of(nn.Sequential(centred, nn.Conv2d(4, 4, 1)), X)] == ["1"]


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = x + self.branch(x)
        return total


class Parallel(nn.Module):
    """Two branches over the same input, joined by their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Ignored(Residual):
    """f(x), unused: x."""

    def forward(self, x: Tensor) -> Tensor:
        self.branch(x)
        return x


BRANCHED = nn.Sequential(
    nn.Conv2d(4, 4, 3, padding=1),
    nn.ReLU(inplace=True),
    Parallel(),
    Residual(nn.Sequential(nn.Conv2d(8, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 1))),
    nn.Conv2d(8, 2, 2, stride=2),
)


def test_branches_join_in_concatenations_and_sums() -> None:
    rows = {row.layer: row for row in pyramid_of(BRANCHED, X)}
    kinds = {name: row.kind for name, row in rows.items() if row.kind != "convolution"}
    assert kinds == {"2": "concatenation", "3": "sum"}
    assert rows["2"].shape == rows["3"].shape == (8, 12, 12)
    assert rows["2"].receptive_field == (5, 5)
    assert rows["3.branch.0"].receptive_field == rows["3"].receptive_field == (9, 9)
    assert rows["4"].receptive_field == (10, 10)
    assert rows["4"].start == (0.5, 0.5)


def test_a_sum_with_the_input_itself_is_a_join() -> None:
    rows = pyramid_of(Residual(nn.Conv2d(4, 4, 3, padding=1)), X)
    assert [(row.layer, row.kind, row.receptive_field) for row in rows] == [
        ("branch", "convolution", (3, 3)),
        ("Residual", "sum", (3, 3)),
    ]


def test_branches_that_lean_to_one_side_span_both() -> None:
    rows = pyramid(
        [
            Convolution(name="causal", channels=2, kernel=5, padding="causal"),
            Convolution(name="middle", channels=2, kernel=3, padding="half"),
            Join(name="sum", operation="sum"),
            Convolution(name="after", channels=2, kernel=3, padding="half"),
        ],
        (2, 9),
        sources=[(-1,), (-1,), (0, 1), (2,)],
    )
    assert [row.receptive_field for row in rows] == [(5,), (3,), (6,), (8,)]
    assert [row.start for row in rows] == [(-2.0,), (0.0,), (-1.5,), (-1.5,)]


@pytest.mark.parametrize(
    ("stride", "channels", "told"),
    [
        (2, 2, "2 and 1 input positions apart|a sum of"),
        (1, 3, r"sum: a sum of \(3, 9\) and \(2, 9\)"),
    ],
)
def test_branches_that_do_not_fit_are_refused(stride: int, channels: int, told: str) -> None:
    layers: list[Layer] = [
        Convolution(name="left", channels=channels, kernel=3, padding="half", stride=stride),
        Convolution(name="right", channels=2, kernel=3, padding="half"),
        Join(name="sum", operation="sum"),
    ]
    with pytest.raises(LayerError, match=told):
        pyramid(layers, (2, 9), sources=[(-1,), (-1,), (0, 1)])


def shared() -> nn.Module:
    conv = nn.Conv2d(4, 4, 1)
    return nn.Sequential(conv, conv)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Sequential(nn.ReLU()), "no layer that a pyramid knows"),
        (
            nn.Sequential(
                nn.Conv2d(4, 4, 1), Residual(nn.AdaptiveAvgPool2d(1)), nn.Conv2d(4, 4, 1)
            ),
            "^2 is made from the output of 0, 1.branch: a pyramid knows",
        ),
        (
            nn.Sequential(nn.Conv2d(4, 4, 1), Ignored(nn.Conv2d(4, 4, 1))),
            "^the network's answer does not depend on 1.branch$",
        ),
        (Chain(lambda x: F.max_pool2d(x, 2)), r"^second takes \(4, 6, 6\) where first gave"),
        (Chain(F.relu, lambda x: x.amax((2, 3))), "^the network's answer takes"),
        (Chain(F.relu, lambda x: {"logits": x}), "answers with a dict, not a tensor"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)),
            "hold 20 parameters, the network 28: no row for 1$",
        ),
        (
            nn.Sequential(nn.Conv2d(4, 4, 1), Function(lambda x: x.mean(3)), nn.Conv1d(4, 4, 1)),
            r"^2 takes \(4, 12\) where 0 gave \(4, 12, 12\)",
        ),
        (shared(), "a layer ran twice or never"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(2)), "1: adaptive pooling to"),
        (nn.Sequential(nn.Linear(12, 5)), r"0: gives \(4, 12, 5\), the arithmetic says"),
    ],
)
def test_a_network_of_other_than_known_layers_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(LayerError, match=told):
        pyramid_of(network, X)


class Miscalculated(nn.Conv2d):
    """A convolution whose output is not what its attributes say."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., 1:]


def test_a_shape_that_the_arithmetic_does_not_predict_is_an_error() -> None:
    with pytest.raises(
        LayerError, match=r"0: gives \(4, 12, 11\), the arithmetic says \(4, 12, 12"
    ):
        pyramid_of(nn.Sequential(Miscalculated(4, 4, 3, padding=1)), X)


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pyramid_of(network, torch.randn(4, 4, 5, 5))
    assert [part.training for part in network] == [True, True, False]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(part._forward_hooks for part in network)


def test_a_network_on_the_meta_device_will_do() -> None:
    build = partial(nn.Conv2d, 4, 4, 3)
    real, meta = nn.Sequential(build()), nn.Sequential(build(device="meta"))
    assert pyramid_of(real, X) == pyramid_of(meta, X.to("meta"))
