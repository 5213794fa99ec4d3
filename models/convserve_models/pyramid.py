"""The pyramid of a network: its layers found by running it once, checked against its real shapes.

The arithmetic itself is `convserve_models.arithmetic`; only this part of it needs torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, singledispatch
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convserve_models.arithmetic import (
    Convolution,
    Embedding,
    GlobalPooling,
    KMaxPooling,
    Layer,
    LayerError,
    Linear,
    Normalization,
    Padding,
    Pooling,
    Row,
    TransposedConvolution,
    pyramid,
)
from convserve_models.layers.pooling import KMaxPool1d
from convserve_models.layers.symbols import Symbols

_MEANS = (torch.mean, Tensor.mean)


def pyramid_of(module: nn.Module, example: Tensor) -> list[Row]:
    """The pyramid of `module`, found by running it in evaluation mode on `example` (batch first).

    Rows are the embeddings, convolutions, poolings, batch normalisations and linear layers, in the
    order in which they ran, and a mean over all positions; activations, dropout and reshaping need
    none.
    The first row's input is the base of the pyramid: what happens before it (scaling, one-hot) is
    no part of it. Works on the meta device. Raises LayerError where the network is no chain of
    such layers, where a parameter belongs to no row, and where a shape is not the one that the
    arithmetic predicts.
    """
    layers = dict(_layers(module))
    with ExitStack() as stack:
        run = stack.enter_context(_Run())
        for part, layer in layers.items():
            stack.enter_context(part.register_forward_hook(partial(run.hook, layer)))
        stack.enter_context(_evaluating(module))
        stack.enter_context(torch.no_grad())
        run.finish(module(example))
    rows = pyramid(run.layers, run.shapes[0])
    _check_shapes(rows, run.shapes[1:])
    _check_parameters(rows, module, layers)
    return rows


class _Run(TorchFunctionMode):
    """One forward pass: its layers in order, and for every tensor the layers it was made from.

    `shapes` are without the batch axis: that of the first layer's input, then of every output.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.shapes: list[tuple[int, ...]] = []
        self._origins: dict[Tensor, frozenset[int]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass the origins of a function's arguments on to its results."""
        result = func(*args, **(kwargs or {}))
        origins = map(self._origins_of, _tensors((args, kwargs)))
        merged: frozenset[int] = frozenset().union(*origins)
        self._origins.update(dict.fromkeys(_tensors(result), merged))
        if func in _MEANS and self._pools_all(args[0], result):
            self._record(GlobalPooling(name="mean"), args[0], result)
        return result

    def hook(self, layer: Layer, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Take down a module that has just run."""
        self._record(layer, args[0], output)

    def finish(self, answer: object) -> None:
        """Check that the network's answer is the last layer's output, activated or reshaped."""
        if not self.layers:
            raise LayerError("the network ran no layer that a pyramid knows")
        if not isinstance(answer, Tensor):
            raise LayerError(f"the network answers with a {type(answer).__name__}, not a tensor")
        self._check_chain("the network's answer", answer)

    def _record(self, layer: Layer, taken: Tensor, given: Tensor) -> None:
        if self.layers:
            self._check_chain(layer.name, taken)
        else:
            ids = (1,) if isinstance(layer, Embedding) else ()  # they have no axis of channels
            self.shapes.append((*ids, *taken.shape[1:]))
        self._origins[given] = frozenset({len(self.layers)})
        self.layers.append(layer)
        self.shapes.append(tuple(given.shape[1:]))

    def _pools_all(self, taken: Tensor, given: Tensor) -> bool:
        """Whether a mean of the last layer's output went over all of its positions."""
        is_last = self._origins_of(taken) == {len(self.layers) - 1}
        kept = given.shape[:2] == taken.shape[:2] and given.numel() == prod(taken.shape[:2])
        return is_last and taken.dim() > 2 and kept

    def _check_chain(self, reader: str, tensor: Tensor) -> None:
        last, shape = len(self.layers) - 1, tuple(tensor.shape[1:])
        origins = self._origins_of(tensor)
        if origins != {last}:
            names = ", ".join(self.layers[i].name for i in sorted(origins)) or "no layer"
            raise LayerError(
                f"{reader} is made from the output of {names}, not of {self.layers[last].name} "
                "alone: a pyramid needs a chain of layers"
            )
        if shape not in (self.shapes[-1], (prod(self.shapes[-1]),)):
            raise LayerError(
                f"{reader} takes {shape} where {self.layers[last].name} gave {self.shapes[-1]}: "
                "make the pooling, padding or reshaping between them a module of the pyramid"
            )

    def _origins_of(self, tensor: Tensor) -> frozenset[int]:
        return self._origins.get(tensor, frozenset())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _layers(module: nn.Module) -> Iterator[tuple[nn.Module, Layer]]:
    for name, part in module.named_modules():
        if layer := _layer(part, name or type(part).__name__):
            yield part, layer


@singledispatch
def _layer(part: nn.Module, name: str) -> Layer | None:
    return None


@_layer.register
def _(part: nn.Conv1d | nn.Conv2d, name: str) -> Layer:
    return Convolution(
        name=name,
        channels=part.out_channels,
        kernel=part.kernel_size,
        stride=part.stride,
        padding=cast(Padding, part.padding),
        dilation=part.dilation,
        groups=part.groups,
        bias=part.bias is not None,
    )


@_layer.register
def _(part: nn.ConvTranspose1d | nn.ConvTranspose2d, name: str) -> Layer:
    return TransposedConvolution(
        name=name,
        channels=part.out_channels,
        kernel=part.kernel_size,
        stride=part.stride,
        padding=cast(Padding, part.padding),
        output_padding=part.output_padding,
        dilation=part.dilation,
        groups=part.groups,
        bias=part.bias is not None,
    )


@_layer.register
def _(part: nn.MaxPool1d | nn.MaxPool2d, name: str) -> Layer:
    return Pooling(
        name=name,
        kernel=part.kernel_size,
        stride=part.stride,
        padding=part.padding,
        dilation=part.dilation,
        ceil=part.ceil_mode,
    )


@_layer.register
def _(part: nn.AvgPool1d | nn.AvgPool2d, name: str) -> Layer:
    return Pooling(
        name=name,
        kernel=part.kernel_size,
        stride=part.stride,
        padding=part.padding,
        ceil=part.ceil_mode,
        operation="average",
    )


@_layer.register
def _(part: nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d, name: str) -> Layer:
    sizes = part.output_size if isinstance(part.output_size, tuple) else (part.output_size,)
    if set(sizes) != {1}:
        raise LayerError(f"{name}: adaptive pooling to {sizes} has no fixed kernel, only that to 1")
    return GlobalPooling(name=name)


@_layer.register
def _(part: KMaxPool1d, name: str) -> Layer:
    return KMaxPooling(name=name, k=part.k)


@_layer.register
def _(part: Symbols, name: str) -> Layer:
    return Embedding(name=name, symbols=part.num_embeddings, channels=part.embedding_dim)


@_layer.register
def _(part: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> Layer:
    return Normalization(name=name, affine=part.affine)


@_layer.register
def _(part: nn.Linear, name: str) -> Layer:
    return Linear(name=name, channels=part.out_features, bias=part.bias is not None)


def _check_shapes(rows: Sequence[Row], shapes: Sequence[tuple[int, ...]]) -> None:
    for row, shape in zip(rows, shapes, strict=True):
        if shape + (1,) * (len(row.shape) - len(shape)) != row.shape:
            raise LayerError(f"{row.layer}: gives {shape}, the arithmetic says {row.shape}")


def _check_parameters(
    rows: Sequence[Row], module: nn.Module, layers: Mapping[nn.Module, Layer]
) -> None:
    counted, held = sum(row.parameters for row in rows), sum(p.numel() for p in module.parameters())
    if counted != held:
        strangers = [
            name
            for name, part in module.named_modules()
            if part not in layers and any(True for _ in part.parameters(recurse=False))
        ]
        cause = f"no row for {', '.join(strangers)}" if strangers else "a layer ran twice or never"
        raise LayerError(f"the rows hold {counted} parameters, the network {held}: {cause}")
