"""The headers of a request by name."""

from starlette.types import Scope

NAMED = "headers by name"
"""In the scope of a request: name → value of the first header that has it."""


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of the first header with this lower-case name, None if there is none."""
    if NAMED not in scope:
        scope[NAMED] = dict(reversed(scope["headers"]))
    value = scope[NAMED].get(name)
    return None if value is None else str(value, "latin-1")
