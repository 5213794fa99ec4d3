"""One header of a request, without a map of all."""

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of the first header with this lower-case name, None if there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None
