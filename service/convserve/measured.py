"""What is known of a model's runs on this machine, from this process and those before it."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convserve.engine.cost import CostModel
from convserve.engine.cpu import CpuBudget, cpu_identity
from convserve.engine.layout import MARGIN, Choice, Layout, Trial
from convserve.engine.session import RUNTIME

logger = logging.getLogger(__name__)


class Measured:
    """A model's `cost` by shape and batch size, and the `choice` of how its runs share the cores.

    Both are of one of its graphs, the one that answers. `gain` tells how many times less processor
    time that of integers takes, None if it was not measured; `recalled` whether an earlier process
    left something.

    They are kept in a file of the directory `cache`; its name follows from what they depend on:
    the graphs' digests, the largest batch, ONNX Runtime's version, the CPU and its budget, and by
    how much a layout must win. A file that is not there, or damaged, is the same as nothing known.
    """

    def __init__(
        self, cache: Path, digests: Sequence[str], max_batch_size: int, budget: CpuBudget
    ) -> None:
        facts = (*digests, max_batch_size, RUNTIME, cpu_identity(), budget.cores, MARGIN)
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self._file = cache.expanduser() / "measured" / f"{name}.json"
        self._usual = Choice(
            Layout(budget.executors, budget.threads_per_executor), "not measured yet"
        )
        self._graph = ""
        self.gain: float | None = None
        self.cost, self.choice = CostModel(), self._usual
        self.recalled = self._recall()

    def begin(self, graph: str) -> None:
        """From now on it is about the runs of `graph`; what is known of another is forgotten."""
        if self._graph != graph:
            self._graph, self.choice, self.recalled = graph, self._usual, False
            self.cost.forget()

    def keep(self) -> None:
        """Write what is known; blocks. What cannot be written is learned again next time."""
        if not self.cost.points():
            return
        try:
            _write(self._file, json.dumps(self._content()))
        except OSError as error:
            logger.warning("what was measured is not kept: %s; set CONVSERVE_CACHE", error)

    def _content(self) -> dict[str, object]:
        points = [
            [shapes, point.batch_size, point.seconds]
            for shapes, curve in self.cost.points().items()
            for point in curve
        ]
        about = {"graph": self._graph, "gain": self.gain}
        return {**about, "choice": asdict(self.choice), "points": points}

    def _recall(self) -> bool:
        try:
            content = json.loads(self._file.read_bytes())
            graph, gain = str(content["graph"]), content["gain"] and float(content["gain"])
            choice = _choice(content["choice"])
            points = [(_shapes(s), int(size), float(taken)) for s, size, taken in content["points"]]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be used: %r; the model is measured anew", self._file, error)
            return False
        self._graph, self.gain, self.choice = graph, gain, choice
        for shapes, size, taken in points:
            self.cost.learn(shapes, size, taken)
        return True


def _choice(content: dict[str, Any]) -> Choice:
    trials = [Trial(**trial | {"layout": Layout(**trial["layout"])}) for trial in content["trials"]]
    return Choice(Layout(**content["layout"]), content["reason"], tuple(trials))


def _shapes(lists: list[list[int]]) -> Hashable:
    return tuple(map(tuple, lists))


def _write(file: Path, text: str) -> None:
    """Write all or nothing, whoever else writes the same file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
