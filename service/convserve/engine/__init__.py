"""Arrays in, arrays out: knows no modality and no HTTP."""

from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
"""Named arrays: the inputs or the outputs of a graph."""
