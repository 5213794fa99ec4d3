"""Arrays in, arrays out: knows no modality and no HTTP."""

import os
from typing import Any

from numpy.typing import NDArray

# ONNX Runtime's Linux wheel reports its use to its maker unless told otherwise before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Arrays = dict[str, NDArray[Any]]
"""Named arrays: the inputs or the outputs of a graph."""
