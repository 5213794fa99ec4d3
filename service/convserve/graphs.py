"""The ONNX graphs of one artifact: the one that answers, and those that say more on demand."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from threading import Lock, Timer

import numpy as np

from convserve.artifact import Artifact
from convserve.engine import Arrays
from convserve.engine.collate import split, stack
from convserve.engine.cores import Cores
from convserve.engine.isolation import Stop
from convserve.engine.layout import Layout, Trial, attempt
from convserve.engine.session import Session, new_stop
from convserve.errors import InferenceFailed, InvalidArtifact
from convserve.measured import Measured
from convserve.precision import FAILED, ONLY, Precision, Wanted, chosen, gain, told
from convserve.settings import Settings

TARGET = "target"  # the explaining graph's input besides the predicting one's: which label
MAPS = "maps"  # no explanation of a label: what the convolutions answer to an input

logger = logging.getLogger(__name__)


class Graphs:
    """The sessions of an artifact; `answering` is the one whose outputs are the answer.

    It begins with the graph of floats, until `decide` has let that of integers answer or not;
    `precision` tells which does, and why. `example` gives an input to try them with, None if
    there is none. Raises InvalidArtifact if the graph of floats does not load.
    """

    def __init__(
        self,
        artifact: Artifact,
        settings: Settings,
        measured: Measured,
        example: Callable[[], Arrays | None],
        cores: Cores,
    ) -> None:
        self.artifact, self.measured = artifact, measured
        self.precision = ONLY
        self.answering = Session(artifact.graph, measured.choice.layout.threads)
        self._wanted: Wanted = settings.precision
        self._run_seconds = settings.run_seconds
        self._example = example
        self._cores = cores
        self._further: dict[str, Session] = {}
        self._opening = Lock()
        self._told: tuple[str, ...] | None = None

    def run(
        self, items: Sequence[Arrays], stop: Stop, session: Session | None = None
    ) -> list[Arrays]:
        """Return each item's outputs, neither with a batch axis, from one run of them all.

        By the graph that the inputs ask for, unless a `session` is given.
        """
        rows = stack(items)
        session = session or self._asked(rows)
        return split(session.run(rows, stop), len(items))

    def run_alone(self, items: Sequence[Arrays], session: Session | None = None) -> list[Arrays]:
        """Run outside the batcher, but no longer than a batch may: then raises TimeoutError."""
        stop = new_stop(tidy=len(items) == 1)
        timer = Timer(self._run_seconds, setattr, (stop, "terminate", True))
        timer.start()
        try:
            return self.run(items, stop, session)
        except Exception:
            if stop.terminate:
                raise TimeoutError(f"a run did not end in {self._run_seconds:g} s") from None
            raise
        finally:
            timer.cancel()

    def attempt(self, session: Session, layout: Layout, items: Sequence[Arrays]) -> Trial:
        """Measure how many items per second a layout's `session` finishes; blocks."""
        return attempt(lambda: self.run_alone(items, session), layout, len(items), self._cores)

    def decide(self, prove: Callable[[Session], object]) -> None:
        """Let the graph of integers answer if it is right and worth it here, or as it was told.

        `prove` raises if a session is not right; blocks.
        """
        integers = None if self._wanted == "float" else self._beside("int8", prove)
        self.precision = self._chosen(integers)
        if integers is not None:
            answers = self.precision.graph == "int8"
            self.answering, other = (
                (integers, self.answering) if answers else (self.answering, integers)
            )
            other.close()
        if self.artifact.manifest.graphs.int8 is not None:
            logger.info("%s %s", self.artifact.manifest.id, self.precision)
        self._begin()

    async def methods(self) -> tuple[str, ...]:
        """Return the names of what the graphs that say more can tell of an input."""
        if self._told is None:
            await asyncio.to_thread(self.try_further)
        return self._told or ()

    def try_further(self) -> None:
        """Try the graphs that say more than its answer, unless that was done; blocks.

        They take more memory than the one that answers: who asks for them first opens them anew.
        """
        with self._opening:
            if self._told is not None:
                return
            explainer = self._tried("explain", {TARGET: np.array(0)})
            maps = self._tried("features", {})
            outputs = explainer.outputs if explainer else ()
            self._told = (*(output.name for output in outputs), *((MAPS,) if maps else ()))

    async def need(self, role: str) -> None:
        """Have the graph of `role` open, which was tried before; raises InferenceFailed."""
        if role not in self._further:
            await asyncio.to_thread(self._open_further, role)

    def close(self) -> None:
        """Let the graphs and their memory go, once no run uses them any more."""
        self.answering.close()
        for session in self._further.values():
            session.close()

    def _asked(self, rows: Arrays) -> Session:
        if "explain" in self._further and TARGET in rows:
            return self._further["explain"]
        if "features" in self._further and rows.pop(MAPS, None) is not None:
            return self._further["features"]
        return self.answering

    def _chosen(self, integers: Session | None) -> Precision:
        if self.artifact.manifest.graphs.int8 is None:
            return ONLY
        if self._wanted == "float":
            return told("float")
        if integers is None:
            return FAILED
        if self._wanted == "int8":
            return told("int8")
        return chosen(self.artifact.manifest, self._gain(integers))

    def _gain(self, integers: Session) -> float:
        """How many times less processor time integers take for one input, measured once."""
        if self.measured.gain is None:
            items = [self._example() or {}]
            floats = self.answering
            self.measured.gain = gain(
                lambda: self.run_alone(items, floats), lambda: self.run_alone(items, integers)
            )
        return self.measured.gain

    def _begin(self) -> None:
        """Take up what is known of the graph that answers, which may not be the last one's."""
        threads = self.measured.choice.layout.threads
        self.measured.begin(self.precision.graph)
        layout = self.measured.choice.layout
        if layout.threads != threads:
            self.answering = Session(self.answering.path, layout.threads)

    def _tried(self, role: str, further: Arrays) -> Session | None:
        """Open and try a graph that says more than the one that predicts."""

        def prove(session: Session) -> None:
            self.run_alone([(self._example() or {}) | further] * 2, session)

        return self._beside(role, prove)

    def _beside(self, role: str, prove: Callable[[Session], object]) -> Session | None:
        """Open and prove a graph beside the one that predicts.

        One that fails is none, and the log says why.
        """
        try:
            session = self._opened(role)
            if session is not None:
                prove(session)
        except Exception as error:
            logger.warning("%s goes without its graph %r: %s", self.artifact.path, role, error)
            return None
        return session

    def _opened(self, role: str) -> Session | None:
        path = self.artifact.beside(role)
        return Session(path, self.measured.choice.layout.threads) if path else None

    def _open_further(self, role: str) -> None:
        with self._opening:
            try:
                if role not in self._further and (session := self._opened(role)):
                    self._further[role] = session
            except InvalidArtifact as error:  # it was good when it was tried
                logger.error("%s", error)
                raise InferenceFailed(f"the graph {role!r} cannot be opened any more") from None
