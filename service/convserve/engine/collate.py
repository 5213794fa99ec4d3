"""Single items to one batch, and one batch back to single items."""

from collections.abc import Hashable, Sequence
from operator import attrgetter

import numpy as np

from convserve.engine import Arrays

SHAPE = attrgetter("shape")


def shapes(item: Arrays) -> Hashable:
    """Return what items have in common that may share a batch."""
    return tuple(map(SHAPE, item.values()))


def stack(items: Sequence[Arrays]) -> Arrays:
    """Join n items without a batch axis into arrays of shape [n, ...].

    Items of one batch have the same names, shapes and dtypes. Other names or shapes raise
    ValueError, another dtype TypeError: nothing is cast silently.
    """
    names = items[0].keys()
    if any(item.keys() != names for item in items):
        raise ValueError("the items of a batch must have the same array names")
    return {name: _stack([item[name] for item in items]) for name in names}


def _stack(arrays: Sequence[np.typing.NDArray[np.generic]]) -> np.typing.NDArray[np.generic]:
    return np.stack(arrays, dtype=arrays[0].dtype, casting="no")


def split(outputs: Arrays, n: int) -> list[Arrays]:
    """Undo `stack`: n items, whose arrays are views of the rows of `outputs`.

    Raises ValueError if the first axis of an array does not have length n.
    """
    for name, array in outputs.items():
        if array.shape[:1] != (n,):
            raise ValueError(
                f"output {name!r} has shape {list(array.shape)} for a batch of {n}; "
                "export the graph with the batch as first axis of every output"
            )
    return [{name: array[row] for name, array in outputs.items()} for row in range(n)]
