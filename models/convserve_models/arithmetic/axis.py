"""One layer along one axis: a window that slides (direct), is spread (transposed) or picks.

The rules R1–R15 are those of Dumoulin and Visin, "A guide to convolution arithmetic for deep
learning" (arXiv:1603.07285), numbered in docs/arithmetic.md. Below, i is the input size, k the
kernel, s the stride, d the dilation, k̂ = (k − 1)d + 1 the extent, o the output size.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

Mode = Literal["valid", "half", "full", "same", "causal", "explicit"]


class Pads(NamedTuple):
    """Zeros before and after the axis (cropped outputs, where the layer is transposed)."""

    before: int
    after: int
    mode: Mode = "explicit"


def extent(kernel: int, dilation: int) -> int:
    """The positions from a kernel's first tap to its last, both included: k̂."""
    return (kernel - 1) * dilation + 1


def pads(mode: Mode, size: int, reach: int, stride: int) -> Pads:
    """The zeros that a named padding puts around an axis of `size`, for a kernel of extent `reach`.

    `half` is the guide's p = ⌊k̂/2⌋ on each side. `same` is TensorFlow's: as many zeros as make
    o = ⌈i/s⌉, an odd one after. `causal` lets no output see its own future.
    """
    match mode:
        case "half":
            return Pads(reach // 2, reach // 2, mode)
        case "full":
            return Pads(reach - 1, reach - 1, mode)
        case "causal":
            return Pads(reach - 1, 0, mode)
        case "same":
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            return Pads(total // 2, total - total // 2, mode)
        case _:
            return Pads(0, 0, mode)


def _unusual_padding(pads: Pads) -> str | None:
    if pads.mode in ("same", "causal"):
        return {"same": "SAME", "causal": "causal"}[pads.mode]
    return "asymmetric" if pads.before != pads.after else None


@dataclass(frozen=True)
class Direct:
    """A convolution or a pooling along one axis."""

    kernel: int
    stride: int
    dilation: int
    pads: Pads
    pools: bool = False
    ceil: bool = False

    @property
    def extent(self) -> int:
        """k̂, in input positions."""
        return extent(self.kernel, self.dilation)

    @property
    def smallest(self) -> int:
        """The least input size that gives an output."""
        return max(1, self.extent - self.pads.before - self.pads.after - self._slack)

    @property
    def scale(self) -> Fraction:
        """Input positions from one output's centre to the next."""
        return Fraction(self.stride)

    @property
    def shift(self) -> Fraction:
        """The centre of the first window, in input positions."""
        return Fraction(self.extent - 1, 2) - self.pads.before

    @property
    def rule(self) -> str:
        """The id of the rule that gives the output size."""
        if unusual := _unusual_padding(self.pads):
            return unusual
        if self.pools:
            return "R7 ceil" if self.ceil else "R7"
        if self.dilation > 1:
            return "R15"
        p = self.pads.before
        if self.stride > 1:
            return "R6" if p else "R5"
        special = {(self.kernel - 1) / 2: "R3", self.kernel - 1: "R4"}
        return special.get(p, "R2") if p else "R1"

    @property
    def _slack(self) -> int:
        return self.stride - 1 if self.ceil else 0

    def output(self, size: int) -> int:
        """The number of windows on an axis of `size`; below 1 where the kernel does not fit."""
        windows = self._windows(size)
        return windows - self._last_is_outside(size, windows)

    def sources(self, units: range) -> range:
        """The input positions that a run of outputs sees, padding included."""
        first = units[0] * self.stride - self.pads.before
        last = units[-1] * self.stride - self.pads.before + self.extent - 1
        return range(first, last + 1)

    def warnings(self, size: int) -> Iterator[str]:
        """What an axis of `size` loses without anybody noticing."""
        outputs = self.output(size)
        lost = size - self.sources(range(outputs)).stop
        if lost > 0:
            yield f"{lost} border position(s) at the end are never read"
        if self.stride > self.extent and outputs > 1:
            gap = self.stride - self.extent
            yield f"stride {self.stride} leaps over {gap} position(s) between windows"
        if self._is_lopsided:
            zeros = f"{self.pads.before}+{self.pads.after}"
            yield f"kernel {self.kernel} under padding {zeros}: centres half a position off"
        if self._last_is_outside(size, self._windows(size)):
            yield "the last pooling window would start outside: dropped"

    @property
    def _is_lopsided(self) -> bool:
        before, after, mode = self.pads
        if mode == "same":
            return before != after
        halves = self.extent % 2 == 0 and before == after == self.extent // 2
        return halves and mode in ("half", "explicit")

    def _windows(self, size: int) -> int:
        span = size + self.pads.before + self.pads.after - self.extent
        return (span + self._slack) // self.stride + 1

    def _last_is_outside(self, size: int, windows: int) -> bool:
        return self.ceil and (windows - 1) * self.stride >= size + self.pads.before


@dataclass(frozen=True)
class Transposed:
    """A transposed convolution along one axis; its padding is that of the direct one it undoes."""

    kernel: int
    stride: int
    dilation: int
    pads: Pads
    extra: int = 0

    @property
    def extent(self) -> int:
        """k̂, in output positions."""
        return extent(self.kernel, self.dilation)

    @property
    def smallest(self) -> int:
        """The least input size that gives an output."""
        return max(1, -((self.output(0) - 1) // self.stride))

    @property
    def scale(self) -> Fraction:
        """Input positions from one output's centre to the next."""
        return Fraction(1, self.stride)

    @property
    def shift(self) -> Fraction:
        """The centre of what the first output sees, in input positions, mean over the phases."""
        return (self.pads.before - Fraction(self.extent - 1, 2)) / self.stride

    @property
    def rule(self) -> str:
        """The id of the rule that gives the output size."""
        if unusual := _unusual_padding(self.pads):
            return unusual
        if self.extra or self.dilation > 1:
            return "R14"
        p = self.pads.before
        if self.stride > 1:
            return "R13" if p else "R12"
        special = {(self.kernel - 1) / 2: "R10", self.kernel - 1: "R11"}
        return special.get(p, "R9") if p else "R8"

    def output(self, size: int) -> int:
        """The outputs that an axis of `size` spreads to; below 1 where the crop takes them all."""
        cropped = self.extent - self.pads.before - self.pads.after
        return (size - 1) * self.stride + cropped + self.extra

    def sources(self, units: range) -> range:
        """The input positions that a run of outputs sees; empty where only the bias is seen."""
        first, last = units[0] + self.pads.before, units[-1] + self.pads.before
        by_tap = [
            range(-((tap - first) // self.stride), (last - tap) // self.stride + 1)
            for tap in range(0, self.extent, self.dilation)
        ]
        seen = [positions for positions in by_tap if positions]
        return range(min(s.start for s in seen), max(s.stop for s in seen)) if seen else range(0)

    def warnings(self, size: int) -> Iterator[str]:
        """What an axis of `size` shows that nobody asked for."""
        taps = Counter(tap * self.dilation % self.stride for tap in range(self.kernel))
        if len(taps) < self.stride or len(set(taps.values())) > 1:
            yield f"kernel {self.kernel} covers stride {self.stride} unevenly: checkerboard"


@dataclass(frozen=True)
class Picked:
    """k-max pooling along one axis of `kernel` positions: `kept` of them, wherever they lie.

    Its jump and start are those of evenly spread positions: the real ones depend on the values.
    """

    kernel: int
    kept: int

    dilation = 1
    pads = Pads(0, 0, "valid")
    rule = "k-max"

    @property
    def extent(self) -> int:
        """All positions."""
        return self.kernel

    @property
    def smallest(self) -> int:
        """The least input size that gives an output."""
        return self.kept

    @property
    def stride(self) -> int:
        """Whole positions from one evenly spread output to the next."""
        return max(1, self.kernel // self.kept)

    @property
    def scale(self) -> Fraction:
        """Input positions from one evenly spread output to the next."""
        return Fraction(self.kernel, self.kept)

    @property
    def shift(self) -> Fraction:
        """The place of the first evenly spread output."""
        return (self.scale - 1) / 2

    def output(self, size: int) -> int:
        """The number kept; below 1 where there are fewer."""
        return self.kept if size >= self.kept else 0

    def sources(self, units: range) -> range:
        """Every input position, whichever outputs are asked for."""
        return range(self.kernel if units else 0)

    def warnings(self, size: int) -> Iterator[str]:
        """None: what is left out is the layer's purpose."""
        yield from ()


Window = Direct | Transposed | Picked
