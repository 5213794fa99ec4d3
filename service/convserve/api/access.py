"""Who may do what: API keys in front of the handlers. Without keys, nothing stands there."""

import re
from collections.abc import Awaitable, Callable
from typing import Literal

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from convserve import keys
from convserve.errors import Forbidden, Unauthorized
from convserve.keys import Key, Keyring
from convserve.settings import Settings

Handler = Callable[[Request], Awaitable[Response]]
Right = Literal["public", "inference", "management"]
BEARER = re.compile(r"Bearer +(\S+)", re.IGNORECASE)


class Access:
    """Puts the keys of the settings before the handlers."""

    def __init__(self, settings: Settings) -> None:
        rate, concurrency = settings.key_requests_per_second, settings.key_concurrency
        self._rings: dict[Right, Keyring] = {
            "inference": Keyring(_keys(settings.inference_keys), rate, concurrency),
            "management": Keyring(_keys(settings.management_keys), rate, concurrency),
        }

    def guard(self, handler: Handler, right: Right) -> Handler:
        """Return the handler, behind the keys for `right` if there are any.

        Management is off without a key of its own.
        """
        if self.open(right):
            return handler
        ring = self._rings[right]

        async def guarded(request: Request) -> Response:
            with ring.admitted(self._authorise(request, right)):
                return await handler(request)

        return guarded

    def open(self, right: Right) -> bool:
        """Tell whether no key is asked for: management is never open."""
        return right == "public" or (right == "inference" and not self._rings[right])

    def permits(self, scope: Scope, right: Right) -> bool:
        """Tell whether a request has a key if one is asked for."""
        try:
            return self.open(right) or bool(self._authorise(Request(scope), right))
        except (Unauthorized, Forbidden):
            return False

    def _authorise(self, request: Request, right: Right) -> Key:
        """Return the caller's key; raises Unauthorized or Forbidden."""
        if not self._rings[right]:
            raise Forbidden("management is off: the operator sets CONVSERVE_MANAGEMENT_KEYS")
        secret = _presented(request)
        if secret is None:
            raise Unauthorized("send a key as Authorization: Bearer … or X-API-Key: …")
        found = {name: ring.find(secret) for name, ring in self._rings.items()}
        if key := found[right]:
            return key
        if any(found.values()):
            raise Forbidden(f"this key is not for {right}")
        raise Unauthorized("this key is not known here")


def _presented(request: Request) -> str | None:
    stated = BEARER.fullmatch(request.headers.get("authorization", "").strip())
    return stated[1] if stated else request.headers.get("x-api-key")


def _keys(texts: tuple[SecretStr, ...]) -> list[Key]:
    return [keys.parse(text.get_secret_value()) for text in texts]
