"""What a model did since it was loaded, as the Open Inference Protocol's statistics tell it."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import methodcaller
from time import time
from typing import ClassVar

UNREAD = 256  # answers that are counted together


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long it took together, in seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """It happened once more, or so often, and took so long."""
        self.count += count
        self.seconds += seconds

    def summary(self) -> dict[str, int]:
        """Return it as Triton tells it."""
        return {"count": self.count, "ns": round(self.seconds * 1e9)}


Spans = Mapping[str, float]
"""Where the time of a request went, in seconds."""


class Statistics:
    """What a model did since it was loaded, split as in Triton's statistics extension."""

    PARTS: ClassVar = {
        "queue": "queue",
        "compute_input": "decode",
        "compute_infer": "inference",
        "compute_output": "post",
    }
    """Triton's word → our span."""

    def __init__(self) -> None:
        self._durations = {name: Duration() for name in ("success", "fail", *self.PARTS)}
        self._batches: dict[int, Duration] = {}
        self._last = 0.0
        self._good: list[tuple[float, float, Spans]] = []
        self._failed: list[float] = []

    def answered(self, status: int, seconds: float, spans: Spans) -> bool:
        """A request was answered after so many seconds; tell whether it is time to `read`."""
        if status >= 400:
            self._failed.append(seconds)
            return len(self._failed) >= UNREAD
        self._good.append((time(), seconds, spans))
        return len(self._good) >= UNREAD

    def batch_finished(self, size: int, seconds: float) -> None:
        """A batch came back."""
        self._batches.setdefault(size, Duration()).add(seconds)

    def read(self) -> None:
        """Add up what was answered; together, which takes a fraction of the time."""
        self._durations["fail"].add(sum(self._failed), len(self._failed))
        self._failed.clear()
        if not self._good:
            return
        times, durations, spans = zip(*self._good, strict=True)
        self._last = times[-1]
        self._durations["success"].add(sum(durations), len(durations))
        for part, span in self.PARTS.items():
            parts = map(methodcaller("get", span, 0.0), spans)
            self._durations[part].add(sum(parts), len(spans))
        self._good.clear()

    def summary(self) -> dict[str, object]:
        """Return it as Triton tells it."""
        self.read()
        none = Duration().summary()
        hits = {"cache_hit": none, "cache_miss": none}
        parts = {name: duration.summary() for name, duration in self._durations.items()}
        return {
            "last_inference": round(self._last * 1e3),
            "inference_count": sum(size * batch.count for size, batch in self._batches.items()),
            "execution_count": sum(batch.count for batch in self._batches.values()),
            "inference_stats": parts | hits,
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": none,
                    "compute_infer": batch.summary(),
                    "compute_output": none,
                }
                for size, batch in sorted(self._batches.items())
            ],
        }
