"""The arithmetic against torch: shapes, counts, receptive fields, on thousands of drawn layers."""

import contextlib
import io
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from math import ceil, gcd, prod
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convserve_models.arithmetic import (
    Convolution,
    GlobalPooling,
    Layer,
    LayerError,
    Linear,
    Normalization,
    Pooling,
    Row,
    TransposedConvolution,
    pyramid,
    table,
)
from convserve_models.manifest import schema

GUIDE = Path(__file__).parents[3] / "docs" / "arithmetic.md"
META = torch.device("meta")
MODES = ("valid", "half", "full", "same", "causal")

many = settings(max_examples=200, deadline=None)
some = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors: threads that wait for each other cost more than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
MAX: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def only(layer: Layer, shape: Sequence[int]) -> Row:
    (row,) = pyramid([layer], shape)
    return row


def predicted(layer: Layer, *shape: int) -> tuple[int, ...] | None:
    """The shape that a layer should give, None where it is refused."""
    try:
        return only(layer, shape).shape
    except LayerError:
        return None


def measured(function: Callable[..., Tensor], *arguments: object) -> tuple[int, ...] | None:
    """The shape that torch gives, None where it refuses or (on the meta device) leaves nothing."""
    try:
        shape = tuple(function(*arguments).shape[1:])
    except RuntimeError:
        return None
    return shape if all(shape) else None


def axes(count: int, low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(low, high)] * count)


def empty(*shape: int) -> Tensor:
    return torch.empty(*shape, device=META)


def swept(count: int) -> list[tuple[int, ...]]:
    """Sizes of an input, small ones and those that a stride makes equal."""
    return [(size, *[21 - size] * (count - 1)) for size in range(1, 21)]


def padded(x: Tensor, sides: Iterable[tuple[int, int]]) -> Tensor:
    """Zeros around the spatial axes; F.pad wants the last axis first."""
    return F.pad(x, [zeros for side in reversed(list(sides)) for zeros in side])


@st.composite
def geometries(draw: st.DrawFn, count: int) -> dict[str, Any]:
    return {
        "kernel": draw(axes(count, 1, 5)),
        "stride": draw(axes(count, 1, 4)),
        "dilation": draw(axes(count, 1, 3)),
    }


# -- shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
@many
@given(st.data())
def test_a_convolution_has_the_shape_that_torch_gives_it(count: int, data: st.DataObject) -> None:
    form = data.draw(geometries(count)) | {"padding": data.draw(axes(count, 0, 5))}
    groups = data.draw(st.integers(1, 3))
    layer = Convolution(name="conv", channels=2 * groups, groups=groups, **form)
    weight = empty(2 * groups, 1, *form["kernel"])
    numbers = form["stride"], form["padding"], form["dilation"], groups
    for sizes in swept(count):
        real = measured(CONVOLUTIONS[count], empty(1, groups, *sizes), weight, None, *numbers)
        assert predicted(layer, groups, *sizes) == real


def definition(mode: str, size: int, reach: int, stride: int) -> tuple[int, int]:
    """Named paddings in the words of their sources; SAME as TensorFlow's documentation has it."""
    if mode == "same":
        total = max(reach - (size % stride or stride), 0)
        return total // 2, total - total // 2
    return {
        "valid": (0, 0),
        "half": (reach // 2, reach // 2),
        "full": (reach - 1, reach - 1),
        "causal": (reach - 1, 0),
    }[mode]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("mode", MODES)
@some
@given(st.data())
def test_a_named_padding_has_the_shape_of_its_definition(
    mode: Any, count: int, data: st.DataObject
) -> None:
    form = data.draw(geometries(count))
    layer = Convolution(name="conv", channels=1, padding=mode, **form)
    reaches = [(k - 1) * d + 1 for k, d in zip(form["kernel"], form["dilation"], strict=True)]
    for sizes in swept(count):
        numbers = zip(sizes, reaches, form["stride"], strict=True)
        sides = tuple(definition(mode, *axis) for axis in numbers)
        check_padded(layer, form, sizes, sides)


@pytest.mark.parametrize("count", [1, 2])
@many
@given(st.data())
def test_an_asymmetric_padding_has_the_shape_that_torch_gives_it(
    count: int, data: st.DataObject
) -> None:
    form = data.draw(geometries(count))
    sides = tuple(data.draw(st.tuples(*[st.integers(0, 5)] * 2)) for _ in range(count))
    layer = Convolution(name="conv", channels=1, padding=sides, **form)
    for sizes in swept(count):
        check_padded(layer, form, sizes, sides)


def check_padded(
    layer: Layer, form: dict[str, Any], sizes: tuple[int, ...], sides: tuple[tuple[int, int], ...]
) -> None:
    x, weight = padded(empty(1, 1, *sizes), sides), empty(1, 1, *form["kernel"])
    numbers = form["stride"], 0, form["dilation"]
    real = measured(CONVOLUTIONS[len(sizes)], x, weight, None, *numbers)
    assert predicted(layer, 1, *sizes) == real
    if real:
        assert only(layer, (1, *sizes)).padding == sides


@many
@given(geometries(1))
def test_same_gives_the_ceiling_and_no_more_zeros_than_it_needs(form: dict[str, Any]) -> None:
    for size in range(1, 21):
        row = only(Convolution(name="c", channels=1, padding="same", **form), (1, size))
        before, after = row.padding[0]
        assert row.shape == (1, ceil(size / row.stride[0]))
        assert 0 <= after - before <= 1
        if after:
            less = Convolution(name="c", channels=1, padding=((before, after - 1),), **form)
            assert predicted(less, 1, size) != row.shape


@pytest.mark.parametrize("count", [1, 2, 3])
@many
@given(st.data())
def test_a_transposed_convolution_has_the_shape_that_torch_gives_it(
    count: int, data: st.DataObject
) -> None:
    form = data.draw(geometries(count)) | {"padding": data.draw(axes(count, 0, 4))}
    limits = map(max, form["stride"], form["dilation"])
    extra = tuple(data.draw(st.integers(0, limit - 1)) for limit in limits)
    groups = data.draw(st.integers(1, 2))
    layer = TransposedConvolution(
        name="up", channels=3 * groups, groups=groups, output_padding=extra, **form
    )
    weight = empty(groups, 3, *form["kernel"])
    numbers = form["stride"], form["padding"], extra, groups, form["dilation"]
    for sizes in swept(count):
        real = measured(TRANSPOSED[count], empty(1, groups, *sizes), weight, None, *numbers)
        assert predicted(layer, groups, *sizes) == real


@many
@given(geometries(1), st.sampled_from(MODES), st.integers(1, 20))
def test_a_transposed_convolution_undoes_the_named_padding(
    form: dict[str, Any], mode: Any, size: int
) -> None:
    (kernel,), (stride,), (dilation,) = form.values()
    assume(mode != "same" or size % stride == 0)
    assume(mode != "valid" or size > (kernel - 1) * dilation)
    row = only(Convolution(name="down", channels=1, padding=mode, **form), (1, size))
    left = (size + sum(row.padding[0]) - (kernel - 1) * dilation - 1) % stride
    up = TransposedConvolution(
        name="up", channels=1, padding=mode, output_padding=0 if mode == "same" else left, **form
    )
    back = only(up, row.shape)
    assert back.shape == (1, size)
    assert back.padding == row.padding


@pytest.mark.parametrize("count", [1, 2])
@many
@given(st.data())
def test_a_max_pooling_has_the_shape_that_torch_gives_it(count: int, data: st.DataObject) -> None:
    form = data.draw(geometries(count))
    padding = tuple(data.draw(st.integers(0, kernel // 2)) for kernel in form["kernel"])
    ceiling = data.draw(st.booleans())
    layer = Pooling(name="pool", padding=padding, ceil=ceiling, **form)
    numbers = form["kernel"], form["stride"], padding, form["dilation"], ceiling
    for sizes in swept(count):
        real = measured(MAX[count], empty(1, 1, *sizes), *numbers)
        assert predicted(layer, 1, *sizes) == real


@many
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_an_average_pooling_has_the_shape_that_torch_gives_it(
    kernel: int, stride: int, padding: int, ceiling: bool
) -> None:
    assume(padding <= kernel // 2)
    form = {"kernel": kernel, "stride": stride, "padding": padding}
    layer = Pooling(name="pool", ceil=ceiling, operation="average", **form)
    for sizes in swept(2):
        real = measured(F.avg_pool2d, empty(1, 3, *sizes), kernel, stride, padding, ceiling)
        assert predicted(layer, 3, *sizes) == real


def test_a_pooling_without_a_stride_leaps_by_its_kernel() -> None:
    assert only(Pooling(name="pool", kernel=(2, 3)), (1, 12, 12)).shape == (1, 6, 4)


@some
@given(geometries(3), st.sampled_from(MODES), axes(3, 13, 20))
def test_axes_are_independent(form: dict[str, Any], mode: Any, sizes: tuple[int, ...]) -> None:
    row = only(Convolution(name="c", channels=2, padding=mode, **form), (1, *sizes))
    for axis, size in enumerate(sizes):
        alone: dict[str, Any] = {field: (values[axis],) for field, values in form.items()}
        line = only(Convolution(name="c", channels=2, padding=mode, **alone), (1, size))
        assert (row.shape[1 + axis],) == line.shape[1:]
        for field in ("rules", "padding", "receptive_field", "jump", "start"):
            assert (getattr(row, field)[axis],) == getattr(line, field)


# -- the guide's rules -----------------------------------------------------------------------------

RULES: dict[str, Callable[..., int]] = {
    "R1": lambda i, k, s, p, d, a: i - k + 1,
    "R2": lambda i, k, s, p, d, a: i - k + 2 * p + 1,
    "R3": lambda i, k, s, p, d, a: i,
    "R4": lambda i, k, s, p, d, a: i + k - 1,
    "R5": lambda i, k, s, p, d, a: (i - k) // s + 1,
    "R6": lambda i, k, s, p, d, a: (i + 2 * p - k) // s + 1,
    "R15": lambda i, k, s, p, d, a: (i + 2 * p - k - (k - 1) * (d - 1)) // s + 1,
    "R8": lambda i, k, s, p, d, a: i + k - 1,
    "R9": lambda i, k, s, p, d, a: i + k - 1 - 2 * p,
    "R10": lambda i, k, s, p, d, a: i,
    "R11": lambda i, k, s, p, d, a: i - (k - 1),
    "R12": lambda i, k, s, p, d, a: s * (i - 1) + k,
    "R13": lambda i, k, s, p, d, a: s * (i - 1) + k - 2 * p,
    "R14": lambda i, k, s, p, d, a: s * (i - 1) + a + k - 2 * p,
}


def claims(layer: Layer, size: int, *numbers: int) -> set[str]:
    """The rule that a row claims, after its formula gave the row's output."""
    try:
        row = only(layer, (1, size))
    except LayerError:
        return set()
    (rule,) = row.rules
    assert row.shape == (1, RULES[rule](size, *numbers)), row
    return {rule}


def test_every_direct_row_obeys_the_rule_that_it_names() -> None:
    seen = set()
    for i, k, s, p, d in itertools.product((3, 8, 9), range(1, 6), (1, 2, 3), range(5), (1, 2)):
        layer = Convolution(name="c", channels=1, kernel=k, stride=s, padding=p, dilation=d)
        seen |= claims(layer, i, k, s, p, d, 0)
    assert seen == {"R1", "R2", "R3", "R4", "R5", "R6", "R15"}


def test_every_transposed_row_obeys_the_rule_that_it_names() -> None:
    seen = set()
    for i, k, s, p, a in itertools.product(
        range(1, 8), range(1, 6), (1, 2, 3), range(5), (0, 1, 2)
    ):
        if a < s and p < k:
            layer = TransposedConvolution(
                name="t", channels=1, kernel=k, stride=s, padding=p, output_padding=a
            )
            seen |= claims(layer, i, k, s, p, 1, a)
    assert seen == {f"R{n}" for n in range(8, 15)}


@pytest.mark.parametrize(
    ("padding", "rule"),
    [("same", "SAME"), ("causal", "causal"), (((2, 1),), "asymmetric"), (((1, 2),), "asymmetric")],
)
def test_a_lopsided_padding_is_named_instead_of_a_rule(padding: Any, rule: str) -> None:
    form: dict[str, Any] = {"channels": 1, "kernel": 3, "stride": 2, "padding": padding}
    assert only(Convolution(name="c", **form), (1, 9)).rules == (rule,)
    assert only(TransposedConvolution(name="t", **form), (1, 9)).rules == (rule,)
    assert only(Pooling(name="p", kernel=3, padding=padding), (1, 9)).rules == (rule,)


def test_a_dilated_transposed_layer_names_the_general_rule() -> None:
    layer = TransposedConvolution(name="t", channels=1, kernel=3, stride=2, dilation=2)
    assert only(layer, (1, 9)).rules == ("R14",)


def test_a_pooling_names_r7_and_obeys_it() -> None:
    for i, k, s in itertools.product(range(5, 15), range(1, 6), range(1, 4)):
        floor = only(Pooling(name="p", kernel=k, stride=s), (1, i))
        upper = only(Pooling(name="p", kernel=k, stride=s, ceil=True), (1, i))
        windows = ceil((i - k) / s) + 1
        inside = windows if (windows - 1) * s < i else windows - 1
        assert (floor.rules, floor.shape[1]) == (("R7",), (i - k) // s + 1)
        assert (upper.rules, upper.shape[1]) == (("R7 ceil",), inside)


def test_a_transposed_convolution_is_a_direct_one_on_the_stretched_input() -> None:
    """R8–R14: k' = k, s' = 1, p' = k − p − 1, s − 1 zeros between, a zeros at the end."""
    for i, k, s, p in itertools.product(range(1, 12), range(1, 6), range(1, 5), range(5)):
        for a in range(s if p < k else 0):
            up = TransposedConvolution(
                name="t", channels=1, kernel=k, stride=s, padding=p, output_padding=a
            )
            twin = Convolution(
                name="c", channels=1, kernel=k, padding=((k - p - 1, k - p - 1 + a),)
            )
            stretched = i + (i - 1) * (s - 1)
            assert predicted(up, 1, i) == predicted(twin, 1, stretched)


def test_a_transposed_convolution_leads_back_to_the_direct_one_s_input() -> None:
    """R14: a = (i + 2p − k) mod s tells apart the inputs that a stride makes equal (R6)."""
    led_back = 0
    for i, k, s, p in itertools.product(range(1, 16), range(1, 8), range(1, 5), range(5)):
        down = Convolution(name="c", channels=1, kernel=k, stride=s, padding=p)
        if i + 2 * p >= k:
            up = TransposedConvolution(
                name="t", channels=1, kernel=k, stride=s, padding=p,
                output_padding=(i + 2 * p - k) % s,
            )  # fmt: skip
            assert pyramid([down, up], (1, i))[-1].shape == (1, i)
            led_back += 1
    assert led_back > 1500


@some
@given(axes(2, 1, 4), axes(2, 1, 3), axes(2, 0, 2), axes(2, 5, 8), st.integers(0, 9))
def test_the_transposed_shape_is_that_of_the_gradient(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    sizes: tuple[int, ...], seed: int,
) -> None:  # fmt: skip
    """⟨Cx, y⟩ = ⟨x, Cᵀy⟩ with the layer that R14 names."""
    torch.manual_seed(seed)
    left = tuple(
        (i + 2 * p - k) % s for i, p, k, s in zip(sizes, padding, kernel, stride, strict=True)
    )
    up = TransposedConvolution(
        name="t", channels=1, kernel=kernel, stride=stride, padding=padding, output_padding=left
    )
    x = torch.randn(1, 1, *sizes, dtype=torch.float64)
    weight = torch.randn(1, 1, *kernel, dtype=torch.float64)
    cx = F.conv2d(x, weight, None, stride, padding)
    y = torch.randn_like(cx)
    cty = F.conv_transpose2d(y, weight, None, stride, padding, left)
    assert only(up, tuple(y.shape[1:])).shape == tuple(cty.shape[1:]) == tuple(x.shape[1:])
    torch.testing.assert_close((cx * y).sum(), (x * cty).sum())


# -- cost ------------------------------------------------------------------------------------------


def check_cost(layer: Layer, module: nn.Module, shape: tuple[int, ...]) -> None:
    x = empty(1, *shape)
    with FlopCounterMode(display=False) as counter:
        y = module(x)
    weights = list(module.parameters())
    row = only(layer, shape)
    flop = counter.get_total_flops()
    assert row.parameters == sum(p.numel() for p in weights)
    assert 2 * row.macs == flop
    assert row.activation_bytes == y.nbytes
    assert row.intensity == flop / sum(t.nbytes for t in (x, y, *weights))


@many
@given(st.data())
def test_a_convolution_costs_what_torch_counts(data: st.DataObject) -> None:
    form = data.draw(geometries(2)) | {"padding": data.draw(axes(2, 0, 2))}
    groups, wide, bias = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.booleans()))
    shape = (2 * groups, *data.draw(axes(2, 13, 20)))
    rest: dict[str, Any] = {"groups": groups, "bias": bias}
    extra = data.draw(st.integers(0, max(min(form["stride"]), min(form["dilation"])) - 1))
    sides = shape[0], wide * groups, form["kernel"], form["stride"], form["padding"]
    direct = Convolution(name="c", channels=wide * groups, **form, **rest)
    spread = TransposedConvolution(
        name="t", channels=wide * groups, output_padding=extra, **form, **rest
    )
    with META:
        check_cost(direct, nn.Conv2d(*sides, form["dilation"], **rest), shape)
        up = nn.ConvTranspose2d(*sides, extra, dilation=form["dilation"], **rest)
        check_cost(spread, up, shape)


@some
@given(st.integers(1, 5), axes(2, 1, 6), st.integers(1, 7), st.booleans())
def test_a_linear_layer_is_a_convolution_with_the_whole_map_as_its_kernel(
    channels: int, sizes: tuple[int, ...], features: int, bias: bool
) -> None:
    shape = (channels, *sizes)
    linear = Linear(name="fc", channels=features, bias=bias)
    with META:
        check_cost(
            linear, nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), features, bias)), shape
        )
    same = only(Convolution(name="fc", channels=features, kernel=sizes, bias=bias), shape)
    row = only(linear, shape)
    fields = ("kernel", "shape", "receptive_field", "start", "parameters", "macs", "intensity")
    assert all(getattr(row, field) == getattr(same, field) for field in fields)


def test_poolings_and_normalisation_count_no_mac() -> None:
    with META:
        check_cost(Normalization(name="bn"), nn.BatchNorm2d(3), (3, 8, 9))
        check_cost(
            Normalization(name="bn", affine=False), nn.BatchNorm2d(3, affine=False), (3, 8, 9)
        )
    check_cost(Pooling(name="p", kernel=3, stride=2), nn.MaxPool2d(3, 2), (3, 8, 9))
    check_cost(GlobalPooling(name="g"), nn.AdaptiveAvgPool2d(1), (3, 8, 9))


# -- receptive field -------------------------------------------------------------------------------


def response(layer: Layer, x: Tensor) -> Tensor:
    """The layer in torch on [N, 1, …], all weights one so that nothing cancels."""
    (row,) = pyramid([layer], tuple(x.shape[1:]))
    weight = torch.ones(1, 1, *row.kernel, dtype=x.dtype)
    count = len(row.kernel)
    if isinstance(layer, TransposedConvolution):
        y = TRANSPOSED[count](x, weight, None, row.stride, 0, layer.output_padding, 1, row.dilation)
        return padded(y, [(-before, -after) for before, after in row.padding])
    x = padded(x, row.padding)
    if isinstance(layer, Pooling):
        return MAX[count](x, row.kernel, row.stride, 0, row.dilation)
    return CONVOLUTIONS[count](x, weight, None, row.stride, 0, row.dilation)


def extents_seen(layers: Sequence[Layer], size: int) -> list[tuple[int, int, int]]:
    """(unit, first, last): what each inner unit of the stack sees of a line, by perturbation."""
    y = torch.eye(size).unsqueeze(1)
    for layer in layers:
        y = response(layer, y)
    seen = []
    for unit, column in enumerate(y[:, 0].T):
        positions = column.nonzero().flatten().tolist()
        if positions and positions[0] >= 0.3 * size and positions[-1] < 0.7 * size:
            seen.append((unit, positions[0], positions[-1]))
    return seen


@st.composite
def direct_layers(draw: st.DrawFn, count: int = 1, most: int = 3) -> Layer:
    form: dict[str, Any] = {
        "kernel": draw(axes(count, 1, most)),
        "stride": draw(axes(count, 1, most)),
        "dilation": draw(axes(count, 1, 2)),
        "padding": draw(st.sampled_from([*MODES, 1, tuple([(2, 1)] * count)])),
    }
    if draw(st.booleans()):
        return Pooling(name="p", **form)
    return Convolution(name="c", channels=1, **form)


@st.composite
def transposed_layers(draw: st.DrawFn) -> Layer:
    stride = draw(st.integers(1, 3))
    kernel = draw(st.integers(stride, stride + 3))
    return TransposedConvolution(
        name="t", channels=1, kernel=kernel, stride=stride,
        padding=draw(st.integers(0, 2)), output_padding=draw(st.integers(0, stride - 1)),
    )  # fmt: skip


def is_convolution(layer: Layer) -> bool:
    return isinstance(layer, Convolution)


@many
@given(st.lists(direct_layers(), min_size=1, max_size=3))
def test_the_field_of_direct_layers_is_what_a_perturbation_reaches(layers: list[Layer]) -> None:
    row = pyramid(layers, (1, 200))[-1]
    seen = extents_seen(layers, 200)
    assert seen
    for unit, first, last in seen:
        assert last - first + 1 == row.receptive_field[0]
        assert (first + last) / 2 == row.start[0] + unit * row.jump[0]


@many
@given(st.lists(direct_layers(), min_size=1, max_size=5))
def test_the_field_of_direct_layers_obeys_the_recursion(layers: list[Layer]) -> None:
    reach, jump, start = 1, 1, Fraction(0)
    for row in pyramid(layers, (1, 2000)):
        extent = (row.kernel[0] - 1) * row.dilation[0] + 1
        reach += (extent - 1) * jump
        start += (Fraction(extent - 1, 2) - row.padding[0][0]) * jump
        jump *= row.stride[0]
        assert row.receptive_field == (reach,)
        assert row.jump == (float(jump),)
        assert row.start == (float(start),)


@many
@given(st.lists(direct_layers() | transposed_layers(), min_size=1, max_size=3))
def test_the_field_of_mixed_layers_is_the_largest_that_a_perturbation_reaches(
    layers: list[Layer],
) -> None:
    row = pyramid(layers, (1, 200))[-1]
    period = prod(
        layer.stride
        for layer in layers
        if isinstance(layer, TransposedConvolution) and isinstance(layer.stride, int)
    )
    seen = extents_seen(layers, 200)
    assume(len(seen) > period)
    assert max(last - first + 1 for _, first, last in seen) == row.receptive_field[0]
    (unit, first, last), (later, *ends) = seen[0], seen[period]
    assert later == unit + period
    assert sum(ends) / 2 - (first + last) / 2 == pytest.approx(period * row.jump[0])


@many
@given(transposed_layers())
def test_a_transposed_layer_s_centres_lie_on_its_grid_in_the_mean(layer: Layer) -> None:
    row = only(layer, (1, 60))
    seen = extents_seen([layer], 60)[: round(1 / row.jump[0])]
    offsets = [(a + b) / 2 - (row.start[0] + unit * row.jump[0]) for unit, a, b in seen]
    assert sum(offsets) == pytest.approx(0)


@some
@given(st.lists(direct_layers(count=2, most=2).filter(is_convolution), min_size=1, max_size=3))
def test_the_field_of_an_image_stack_is_what_a_gradient_reaches(layers: list[Layer]) -> None:
    x = torch.ones(1, 1, 72, 72, requires_grad=True)
    y = x
    for layer in layers:
        y = response(layer, y)
    unit = [size // 2 for size in y.shape[2:]]
    (gradient,) = torch.autograd.grad(y[0, 0, unit[0], unit[1]], x)
    row = pyramid(layers, (1, 72, 72))[-1]
    for axis, positions in enumerate(gradient[0, 0].nonzero().T):
        first, last = int(positions.min()), int(positions.max())
        assert last - first + 1 == row.receptive_field[axis]
        assert (first + last) / 2 == row.start[axis] + unit[axis] * row.jump[axis]


def test_the_field_of_a_global_pooling_is_the_whole_input() -> None:
    row = pyramid([Convolution(name="c", channels=1, kernel=5), GlobalPooling(name="g")], (1, 40))[
        1
    ]
    assert (row.receptive_field, row.start, row.rules) == ((40,), (19.5,), ("R7",))


# -- errors and warnings ---------------------------------------------------------------------------


@many
@given(geometries(1), st.integers(0, 2), st.booleans(), st.integers(1, 12))
def test_a_kernel_that_does_not_fit_names_the_smallest_size_that_does(
    form: dict[str, Any], padding: int, upwards: bool, size: int
) -> None:
    kind = TransposedConvolution if upwards else Convolution
    layer = kind(name="conv3", channels=1, padding=padding, **form)
    try:
        only(layer, (1, size))
    except LayerError as error:
        told = re.search(r"^conv3: .* axis 0 of size (\d+); .* fits is (\d+)$", str(error))
        assert told
        assert int(told[1]) == size < int(told[2])
        assert only(layer, (1, int(told[2]))).shape[1] >= 1
        assert predicted(layer, 1, int(told[2]) - 1) is None


@many
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 12))
def test_a_ceil_pooling_that_does_not_fit_names_the_smallest_size_that_does(
    kernel: int, stride: int, size: int
) -> None:
    layer = Pooling(name="pool", kernel=kernel, stride=stride, ceil=True)
    try:
        only(layer, (1, size))
    except LayerError as error:
        smallest = int(str(error).rsplit(" ", 1)[1])
        assert predicted(layer, 1, smallest)
        assert predicted(layer, 1, smallest - 1) is None


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (Convolution(name="c", channels=4, kernel=(3, 3)), "c: kernel has 2 axes, the input has 1"),
        (Convolution(name="c", channels=4, kernel=0), "c: kernel is 0, it must be at least 1"),
        (Convolution(name="c", channels=4, kernel=3, stride=0), "c: stride is 0"),
        (Convolution(name="c", channels=4, kernel=3, dilation=0), "c: dilation is 0"),
        (Convolution(name="c", channels=4, kernel=3, padding=-1), "c: padding is .*at least 0"),
        (Convolution(name="c", channels=4, kernel=3, padding=((0, -1),)), "c: padding is"),
        (Convolution(name="c", channels=4, kernel=3, padding=((1, 0), 1)), "c: padding has 2 axes"),
        (Convolution(name="c", channels=4, kernel=3, groups=4), "4 groups must divide its 6 input"),
        (Convolution(name="c", channels=4, kernel=3, groups=3), "and its 4 output channels"),
        (
            TransposedConvolution(name="t", channels=4, kernel=3, stride=2, output_padding=2),
            "t: output_padding 2 must be below 2, the larger of stride and dilation",
        ),
        (Pooling(name="p", kernel=3, stride=(2, 2)), "p: stride has 2 axes"),
    ],
)
def test_an_impossible_layer_is_refused_by_name(layer: Layer, told: str) -> None:
    with pytest.raises(LayerError, match=told):
        only(layer, (6, 12))


def warned(row: Row, word: str) -> list[int]:
    """The number that starts each warning about `word`, or zero where it starts with none."""
    found = [re.match(r"\d*", text) for text in row.warnings if word in text]
    return [int(match[0] or 0) for match in found if match]


@many
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([*MODES, 1, 2]), st.integers(5, 30))
def test_lost_border_positions_are_those_without_gradient(
    kernel: int, stride: int, padding: Any, size: int
) -> None:
    assume(stride <= kernel)
    layer = Convolution(name="c", channels=1, kernel=kernel, stride=stride, padding=padding)
    x = torch.ones(1, 1, size, requires_grad=True)
    (gradient,) = torch.autograd.grad(response(layer, x).sum(), x)
    lost = size - 1 - int(gradient[0, 0].nonzero().max())
    assert sum(warned(only(layer, (1, size)), "border")) == lost


@some
@given(st.integers(1, 4), st.integers(1, 7))
def test_a_stride_that_leaps_over_positions_is_told(kernel: int, stride: int) -> None:
    layer = Convolution(name="c", channels=1, kernel=kernel, stride=stride)
    x = torch.ones(1, 1, 40, requires_grad=True)
    (gradient,) = torch.autograd.grad(response(layer, x).sum(), x)
    unseen = gradient[0, 0, : kernel + stride].eq(0).sum()
    assert ("leaps" in " ".join(only(layer, (1, 40)).warnings)) == bool(unseen)


@some
@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_a_checkerboard_is_told_where_a_constant_comes_out_uneven(
    kernel: int, stride: int, dilation: int
) -> None:
    layer = TransposedConvolution(
        name="t", channels=1, kernel=kernel, stride=stride, dilation=dilation
    )
    inner = response(layer, torch.ones(1, 1, 60))[0, 0, 25:-25]
    told = any("checkerboard" in text for text in only(layer, (1, 60)).warnings)
    assert told == bool(inner.min() != inner.max())
    if dilation == 1:
        assert told == (kernel % stride != 0)


@many
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=4))
def test_gridding_is_told_only_where_a_unit_sees_no_two_neighbours(
    forms: list[tuple[int, int]],
) -> None:
    layers: list[Layer] = [
        Convolution(name="c", channels=1, kernel=k, dilation=d, padding="half") for k, d in forms
    ]
    y = torch.eye(90).unsqueeze(1)
    for layer in layers:
        y = response(layer, y)
    seen = y[:, 0, 45].nonzero().flatten()
    told = any("gridding" in text for text in pyramid(layers, (1, 90))[-1].warnings)
    wide = [d for k, d in forms if k > 1]
    apart = gcd(*wide) > 1 and len(wide) > 1 and forms[-1][0] > 1
    assert told == apart
    if apart:
        assert (seen.diff() >= gcd(*wide)).all()


def test_a_change_of_resolution_ends_a_run_of_dilations() -> None:
    form: dict[str, Any] = {"channels": 1, "kernel": 3, "dilation": 2, "padding": "half"}
    plain, strided = Convolution(name="a", **form), Convolution(name="b", stride=2, **form)
    rows = pyramid([plain, plain, strided, plain, plain], (1, 64))
    told = [any("gridding" in text for text in row.warnings) for row in rows]
    assert told == [False, True, True, False, True]


@some
@given(st.integers(2, 6), st.sampled_from(["half", "same", "explicit"]))
def test_an_even_kernel_under_same_padding_is_told(kernel: int, mode: Any) -> None:
    padding = kernel // 2 if mode == "explicit" else mode
    row = only(Convolution(name="c", channels=1, kernel=kernel, padding=padding), (1, 20))
    told = any("half a position off" in text for text in row.warnings)
    assert told == (row.start != (0.0,)) == (kernel % 2 == 0)


def test_full_padding_is_no_failed_same_padding() -> None:
    assert only(Convolution(name="c", channels=1, kernel=2, padding="full"), (1, 20)).warnings == ()


@many
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.integers(4, 20))
def test_a_window_that_would_start_outside_is_told(
    kernel: int, stride: int, padding: int, size: int
) -> None:
    assume(padding <= kernel // 2)
    layer = Pooling(name="p", kernel=kernel, stride=stride, padding=padding, ceil=True)
    row = only(layer, (1, size))
    stated = ceil((size + 2 * padding - kernel) / stride) + 1
    assert any("outside" in text for text in row.warnings) == (row.shape[1] < stated)


def test_a_warning_names_its_axis_where_the_others_have_none() -> None:
    uneven = Convolution(name="c", channels=1, kernel=(3, 2), stride=(1, 2))
    assert only(uneven, (1, 9, 9)).warnings == (
        "axis 1: 1 border position(s) at the end are never read",
    )


# -- what leaves the module ------------------------------------------------------------------------


@some
@given(st.lists(direct_layers() | transposed_layers(), min_size=1, max_size=4))
def test_a_row_is_an_item_of_the_manifest_s_pyramid(layers: list[Layer]) -> None:
    item = {**schema()["properties"]["pyramid"]["items"], "$defs": schema()["$defs"]}
    try:
        rows = pyramid(layers, (1, 50))
    except LayerError:  # the layers before leave too little
        reject()
    for row in rows:
        entry = json.loads(json.dumps(row.entry()))
        Draft202012Validator(item).validate(entry)
        assert all(entry[key] == json.loads(json.dumps(getattr(row, key))) for key in entry)


def test_a_table_aligns_its_columns_and_ends_with_totals_and_warnings() -> None:
    rows = pyramid(
        [
            Convolution(name="first", channels=8, kernel=3, stride=2, padding="same"),
            TransposedConvolution(name="second", channels=2, kernel=3, stride=2),
        ],
        (3, 16, 16),
    )
    header, *lines, total, lopsided, checkerboard = table(rows).splitlines()
    assert [line.split()[0] for line in lines] == ["first", "second"]
    assert len({line.index("×") for line in lines}) == 1
    assert len({len(line) for line in (header, *lines)}) == 1
    assert total.split() == ["total", "370", f"{sum(row.macs for row in rows):,}"]
    assert lopsided == f"first: {rows[0].warnings[0]}"
    assert checkerboard == f"second: {rows[1].warnings[0]}"


def test_the_guide_s_example_prints_what_the_guide_shows() -> None:
    example = re.search(r"```python\n(.*?)```\s+```text\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert example
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example[1], {})
    assert printed.getvalue() == example[2]


def test_the_arithmetic_loads_neither_torch_nor_numpy() -> None:
    probe = (
        "import sys, convserve_models.arithmetic; print({'torch', 'numpy'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
