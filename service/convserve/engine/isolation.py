"""A batch that fails is run again in halves, so that only the offenders fail."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Stop(Protocol):
    """What a run is given to learn that it should end: set `terminate` from any thread."""

    terminate: bool


P = TypeVar("P")
R = TypeVar("R")
Run = Callable[[Sequence[P], Stop], Sequence[R | Exception]]


def run_isolated(run: Run[P, R], payloads: Sequence[P], stop: Stop) -> Sequence[R | Exception]:
    """Run a batch; if it raises, run its halves, until only the offenders have failed.

    Returns for each payload its row, or the exception in its place. A run that was stopped is
    not tried again.
    """
    try:
        rows = run(payloads, stop)
        if len(rows) != len(payloads):
            raise RuntimeError(f"{len(rows)} rows came back for {len(payloads)} payloads")
    # Everything: native code raises BaseExceptions too (a Rust panic, say), and whoever waits
    # must hear of it.
    except BaseException as error:
        if len(payloads) == 1 or stop.terminate:
            return [_as_exception(error)] * len(payloads)
        half = len(payloads) // 2
        return [
            *run_isolated(run, payloads[:half], stop),
            *run_isolated(run, payloads[half:], stop),
        ]
    return rows


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"the run raised {error!r}")
    wrapped.__cause__ = error
    return wrapped
