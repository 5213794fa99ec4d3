"""What is to be imported, and the parts of it that are no network: labels and preprocessing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convserve_models import manifest
from convserve_models.importing.refusal import Refusal
from convserve_models.recipe import Preprocess

NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
FILE = (
    '{"steps": [{"op": "decode"}, {"op": "resize", "shorter": 256}, {"op": "center_crop", "size": '
    '[224, 224]}], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": "RGB"}'
)


@dataclass(frozen=True)
class Request:
    """The words of the command line. `output` names the class scores if the graph has several."""

    network: str
    labels: str
    preprocess: str
    sample: str
    expect: str
    name: str
    title: str | None = None
    licence: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Pixels:
    """Byte work, then (pixel / 255 - mean) / std per channel, in the order `channels`."""

    height: int
    width: int
    shorter: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    filter: str = "bilinear"
    channels: str = "RGB"
    fixed: bool = True

    def preprocess(self) -> Preprocess:
        """The steps before the graph."""
        return Preprocess(
            "image",
            (
                {"op": "decode"},
                {"op": "resize", "shorter": self.shorter, "filter": self.filter},
                {"op": "center_crop", "size": [self.height, self.width]},
            ),
        )

    def at(self, height: int, width: int) -> Pixels:
        """The preset for another size of picture: the margin of the crop stays in proportion."""
        shorter = round(self.shorter * min(height, width) / min(self.height, self.width))
        return replace(self, height=height, width=width, shorter=max(shorter, height, width))


PRESETS = {
    # What torchvision's classifiers were trained with.
    "imagenet": Pixels(
        224, 224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), fixed=False
    ),
    "cifar": Pixels(
        32, 32, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), fixed=False
    ),
}  # fmt: skip


def read_labels(path: Path) -> tuple[str, ...]:
    """One label a line; raises Refusal."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(
            "labels_unreadable", f"{path} cannot be read: {error}", "write one label a line, UTF-8"
        ) from None
    while lines and not lines[-1].strip():
        lines.pop()
    labels = tuple(line.strip() for line in lines)
    empty = next((place for place, label in enumerate(labels, 1) if not label), None)
    if empty or len(labels) < 2:
        what = f"line {empty} is empty" if empty else f"{len(labels)} labels"
        raise Refusal(
            "labels_empty",
            f"{path}: {what}",
            "write one label a line, in the order of the outputs, two or more",
        )
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise Refusal(
            "labels_twice",
            f"{path}: {twice!r} is listed twice",
            "give each output a label of its own, such as 'crane (bird)' and 'crane (machine)'",
        )
    return labels


def read_pixels(word: str) -> Pixels:
    """A preset's name or a JSON file; raises Refusal."""
    if word in PRESETS:
        return PRESETS[word]
    try:
        stated = json.loads(Path(word).read_text(encoding="utf-8"))
        return _from_file(stated)
    except OSError:
        known = ", ".join(PRESETS)
        raise Refusal(
            "preprocess_unknown",
            f"{word!r} is neither a preset ({known}) nor a file that can be read",
            f"name one of {known}, or write a file such as {FILE}",
        ) from None
    except (ValueError, KeyError, TypeError, manifest.InvalidManifest) as error:
        raise Refusal(
            "preprocess_wrong",
            f"{word}: {type(error).__name__}: {error}",
            f"write it as {FILE}",
        ) from None


def _from_file(stated: dict[str, Any]) -> Pixels:
    unknown = stated.keys() - {"steps", "mean", "std", "channels"}
    if unknown:
        raise ValueError(f"{min(unknown)!r} is not known")
    steps = {step["op"]: step for step in stated["steps"]}
    if [*steps] != ["decode", "resize", "center_crop"] or len(stated["steps"]) != len(steps):
        raise ValueError("steps must be decode, resize, center_crop")
    for step in stated["steps"]:
        manifest.validate_step(step)
    height, width = steps["center_crop"]["size"]
    pixels = Pixels(
        height,
        width,
        steps["resize"]["shorter"],
        _three(stated, "mean", 0.0),
        _three(stated, "std", 1.0),
        steps["resize"].get("filter", "bilinear"),
        stated.get("channels", "RGB"),
    )
    if pixels.channels not in {"RGB", "BGR"} or min(pixels.std) <= 0:
        raise ValueError("channels must be RGB or BGR, and every std above 0")
    if pixels.shorter < max(height, width):
        raise ValueError("center_crop is larger than what resize leaves")
    return pixels


def _three(stated: dict[str, Any], key: str, default: float) -> tuple[float, ...]:
    values = tuple(float(value) for value in stated.get(key, [default] * 3))
    if len(values) != 3:
        raise ValueError(f"{key} must have three numbers, for pixels from 0 to 1")
    return values
