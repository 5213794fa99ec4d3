"""The pyramid of a network: its layers found by running it once, checked against its real shapes.

The arithmetic itself is `convserve_models.arithmetic`; only this part of it needs torch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, singledispatch
from math import prod
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convserve_models.arithmetic import (
    Convolution,
    Embedding,
    GlobalPooling,
    Join,
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
from convserve_models.layers.convolution import SameConv2d
from convserve_models.layers.pooling import KMaxPool1d
from convserve_models.layers.symbols import Symbols

INPUT = -1
"""The position of what the first layer reads."""
_MEANS = (torch.mean, Tensor.mean)
_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
_SUMS = (torch.add, Tensor.add, Tensor.add_, Tensor.__iadd__, torch.mul, Tensor.mul, torch.maximum)


def pyramid_of(module: nn.Module, example: Tensor) -> list[Row]:
    """The pyramid of `module`, found by running it in evaluation mode on `example` (batch first).

    Rows are the embeddings, convolutions, poolings, batch normalisations and linear layers, in the
    order in which they ran, a mean over all positions, and the joins of branches, named after the
    module that joins them; activations, dropout and reshaping need none.
    The first row's input is the base of the pyramid: what happens before it (scaling, one-hot) is
    no part of it. Works on the meta device. Raises LayerError where a layer reads something else
    than another's output, where the answer does not depend on a layer, where a parameter belongs to
    no row, and where a shape is not the one that the arithmetic predicts.
    """
    layers = dict(_layers(module))
    with ExitStack() as stack:
        run = stack.enter_context(_Run())
        for name, part in module.named_modules():
            stack.enter_context(part.register_forward_pre_hook(partial(run.enter, name)))
            stack.enter_context(part.register_forward_hook(partial(run.leave, layers.get(part))))
        stack.enter_context(_evaluating(module))
        stack.enter_context(torch.no_grad())
        run.finish(module(example))
    rows = pyramid(run.layers, run.base, sources=run.sources)
    _check_shapes(rows, run.shapes)
    _check_parameters(rows, module, layers)
    return rows


class _Run(TorchFunctionMode):
    """One forward pass: its layers in order, and for every tensor the layers it was made from.

    `shapes` are those of the layers' outputs, `base` that of the first one's input, all without
    the batch axis; `sources` are the positions of the layers that each layer reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.shapes: list[tuple[int, ...]] = []
        self.sources: list[tuple[int, ...]] = []
        self.base: tuple[int, ...] = ()
        self._modules: list[str] = []
        self._origins: dict[Tensor, frozenset[int]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass the origins of a function's arguments on to its results."""
        taken = list(_tensors((args, kwargs)))
        origins = [self._origins_of(tensor) for tensor in taken]
        result = func(*args, **(kwargs or {}))
        merged: frozenset[int] = frozenset().union(*origins)
        self._origins.update(dict.fromkeys(_tensors(result), merged))
        if func in _MEANS and self._pools_all(args[0], result):
            self._record(GlobalPooling(name="mean"), tuple(origins[0]), result)
        elif all(len(origin) == 1 for origin in origins):
            sources = tuple(position for (position,) in origins)
            if operation := _operation(func, sources, taken, result):
                self._record(Join(name=self._modules[-1], operation=operation), sources, result)
        return result

    def enter(self, name: str, part: nn.Module, _: object) -> None:
        """Note which module runs."""
        self._modules.append(name or type(part).__name__)

    def leave(
        self, layer: Layer | None, _: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> None:
        """Take down a module that has just run, if it is a layer."""
        self._modules.pop()
        if layer:
            self._read(layer, args[0], output)

    def finish(self, answer: object) -> None:
        """Check that the network's answer is a layer's output, and that it needs all layers."""
        if not self.layers:
            raise LayerError("the network ran no layer that a pyramid knows")
        if not isinstance(answer, Tensor):
            raise LayerError(f"the network answers with a {type(answer).__name__}, not a tensor")
        used = {self._source("the network's answer", answer)}.union(*self.sources)
        if unused := set(range(len(self.layers))) - used:
            raise LayerError(f"the network's answer does not depend on {self._names(unused)}")

    def _read(self, layer: Layer, taken: Tensor, given: Tensor) -> None:
        if not self.layers:
            ids = (1,) if isinstance(layer, Embedding) else ()  # they have no axis of channels
            self.base = (*ids, *taken.shape[1:])
            self._origins[taken] = frozenset({INPUT})
        self._record(layer, (self._source(layer.name, taken),), given)

    def _record(self, layer: Layer, sources: tuple[int, ...], given: Tensor) -> None:
        self._origins[given] = frozenset({len(self.layers)})
        self.layers.append(layer)
        self.sources.append(sources)
        self.shapes.append(tuple(given.shape[1:]))

    def _pools_all(self, taken: Tensor, given: Tensor) -> bool:
        """Whether a mean of a layer's output went over all of its positions."""
        is_output = len(self._origins_of(taken) - {INPUT}) == 1
        kept = given.shape[:2] == taken.shape[:2] and given.numel() == prod(taken.shape[:2])
        return is_output and taken.dim() > 2 and kept

    def _source(self, reader: str, tensor: Tensor) -> int:
        """The position of the layer whose output, activated or flattened, a tensor is."""
        origins = self._origins_of(tensor)
        if len(origins) != 1:
            raise LayerError(
                f"{reader} is made from the output of {self._names(origins)}: a pyramid knows "
                "layers that read one other layer, concatenations of channels and sums"
            )
        (origin,) = origins
        shape, given = tuple(tensor.shape[1:]), self.base if origin < 0 else self.shapes[origin]
        if origin != INPUT and shape not in (given, (prod(given),)):
            raise LayerError(
                f"{reader} takes {shape} where {self._names(origins)} gave {given}: "
                "make the pooling, padding or reshaping between them a module of the pyramid"
            )
        return origin

    def _names(self, positions: Iterable[int]) -> str:
        names = [self.layers[i].name if i >= 0 else "the input" for i in sorted(positions)]
        return ", ".join(names) or "no layer"

    def _origins_of(self, tensor: Tensor) -> frozenset[int]:
        return self._origins.get(tensor, frozenset())


def _operation(
    func: Callable[..., Any], sources: Sequence[int], taken: Sequence[Tensor], result: Any
) -> Literal["concatenation", "sum"] | None:
    """How a function joins the outputs of layers, if it does."""
    if func in _CONCATENATIONS and len(result) == len(taken[0]):
        channels = sum(tensor.shape[1] for tensor in taken)
        return "concatenation" if result.shape[1] == channels else None
    alike = (
        all(tensor.shape == result.shape for tensor in taken) if len(set(sources)) > 1 else False
    )
    return "sum" if alike and func in _SUMS else None


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
def _(part: SameConv2d, name: str) -> Layer:
    return Convolution(
        name=name,
        channels=part.out_channels,
        kernel=part.kernel_size,
        stride=part.stride,
        padding=((part.before, part.after), (part.before, part.after)),
        groups=part.groups,
        bias=False,
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
def _(part: nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d, name: str) -> Layer:
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
