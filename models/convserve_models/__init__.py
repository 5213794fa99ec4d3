"""The training side of convserve: the only place where torch lives."""

import os

# ONNX Runtime's Linux wheel reports its use to its maker unless told otherwise before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
