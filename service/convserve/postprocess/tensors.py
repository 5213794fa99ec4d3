"""The graph's outputs as they are: a model without labels."""

from typing import Any

from numpy.typing import NDArray

from convserve.manifest import Manifest


class Tensors:
    """Outputs → nested lists by name."""

    labels: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest) -> None:
        pass

    def proof(self, outputs: dict[str, NDArray[Any]]) -> dict[str, float]:
        """There are no probabilities."""
        return {}

    def searches(self, top_k: int | None) -> bool:
        """Tell whether an answer takes too long for the event loop: never."""
        return False

    def answer(self, outputs: dict[str, NDArray[Any]], top_k: int | None) -> dict[str, object]:
        """Return the outputs by name."""
        return {name: array.tolist() for name, array in outputs.items()}
