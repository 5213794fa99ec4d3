"""Why a network is not imported."""

from __future__ import annotations

from typing import Any

TORCH = (
    'torch.onnx.export(model.eval(), (example,), "net.onnx", dynamo=True, external_data=False, '
    'dynamic_shapes=({0: torch.export.Dim("batch")},)) with an example of two pictures'
)
"""The export call that most refusals end with."""


class Refusal(Exception):
    """A diagnosis: `code` is its stable name, `detail` what is wrong, `remedy` what mends it."""

    def __init__(self, code: str, detail: str, remedy: str) -> None:
        super().__init__(f"{detail}\n  remedy: {remedy}")
        self.code, self.detail, self.remedy = code, detail, remedy

    def fields(self) -> dict[str, Any]:
        """What `Refusal(**fields)` makes again on the other side of a process."""
        return {"code": self.code, "detail": self.detail, "remedy": self.remedy}
