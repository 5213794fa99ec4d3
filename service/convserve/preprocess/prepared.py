"""What every modality's preprocessing takes and gives.

What is made for each request is not frozen, here and elsewhere: that takes three times as long.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

# Above this many bytes or pixels, handing the work to a thread costs less than what it
# holds up on the event loop.
SMALL = 2**16


@dataclass(slots=True)
class Prepared:
    """One input: arrays by name, without batch axis, and facts that the caller is told."""

    inputs: dict[str, NDArray[Any]]
    facts: dict[str, object]


@dataclass(slots=True)
class Pending:
    """Work that is still to be done: whether it deserves a thread, and the bytes it unpacks."""

    large: bool
    unpacked: int
    finish: Callable[[], Prepared]


class Preprocess(Protocol):
    """The byte work in front of a model."""

    def peek(self, data: bytes) -> Pending:
        """Refuse what can be refused unread; `finish` of the result does the rest.

        It reads headers only, which still deserves a thread if `data` is longer than SMALL. Both
        raise InvalidInput, InputTooLarge or UnsupportedMedia.
        """
