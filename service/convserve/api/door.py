"""The door: who asks a model is refused here, or let in past all layers but those they need.

Under overload most requests are refused, and what that takes is taken from those that are answered:
here it is before there is a task, and before the body is read. Who is let in gets a whole answer:
the messages in which ASGI passes one on, and what a server checks of them, cost as much again.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Scope

from convserve.api import problems
from convserve.api.access import Access, Handler, Right
from convserve.api.headers import header
from convserve.api.middleware import CLIENT_LEFT, Ledger, headers, unfinished
from convserve.api.operations import Operation
from convserve.api.reading import ADMITTED, deadline
from convserve.errors import CallerError, CapacityError
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.telemetry import Trace

Whole = tuple[int, list[tuple[bytes, bytes]], bytes]
"""An answer: status, headers, body."""


class Caller(Protocol):
    """A client that asks: its scope, its body by `receive`, and whether it has left."""

    scope: Any
    disconnected: bool

    async def receive(self) -> Any:
        """Return the next ASGI message of its body."""


Room = Callable[[Caller], Awaitable[Whole | None]]
"""What answers those who are let in; None if the client has left. It is cancelled then."""


class Door:
    """Where requests for one of the `operations`, which ask a model, come in; see `__call__`.

    Keys come first: for who lacks the one that `access` asks for, it is not there. Nor is it for
    pages elsewhere if `cors` has to see to them.
    """

    def __init__(
        self,
        app: FastAPI,
        repository: Repository,
        access: Access,
        ledger: Ledger,
        operations: Iterable[Operation],
        *,
        cors: bool,
    ) -> None:
        self._app = app
        self._repository = repository
        self._access = access
        self._ledger = ledger
        self._cors = cors
        self._rooms = [self._entrance(operation) for operation in operations]
        self._find = lru_cache(maxsize=256)(self._match)
        self._let_in: dict[ServedModel, int] = {}

    def __call__(self, scope: Scope) -> Whole | Room | None:
        """Return what a request gets whose body was not read.

        That is a refusal, or what answers it if its model has room. None for all else, whether it
        asks no model, one that is not at hand, or in a wrong way: the application sees to it.
        """
        path = scope["path"].removeprefix(scope["root_path"])
        found = self._find(scope["method"], path)
        if not found:
            return None
        room, right, names = found
        if not self._access.permits(scope, right) or (self._cors and header(scope, b"origin")):
            return None
        model = self._repository.at_hand(**names)
        if not model:
            return None
        scope["app"], scope["path_params"] = self._app, names
        try:
            end = deadline(scope)
        except CallerError:
            return None
        if refusal := model.refusal(end, coming=self._let_in.get(model, 0)):
            return self._refuse(scope, model, refusal)
        self._let(model)
        scope[ADMITTED] = model, end
        return room

    def _entrance(self, operation: Operation) -> tuple[str, re.Pattern[str], Room, Right]:
        handler = self._access.guard(operation.handler, operation.right)
        pattern = compile_path(operation.path)[0]
        return operation.method, pattern, self._room(handler), operation.right

    def _match(self, method: str, path: str) -> tuple[Room, Right, dict[str, Any]] | None:
        """Return what answers such requests, by whose right, and which model they ask, if any."""
        for taken, pattern, room, right in self._rooms:
            if taken == method and (match := pattern.match(path)):
                return room, right, match.groupdict()
        return None

    def _let(self, model: ServedModel) -> None:
        """Count who comes in until this turn of the event loop ends, and the model knows of it."""
        if not self._let_in:
            asyncio.get_running_loop().call_soon(self._let_in.clear)
        self._let_in[model] = self._let_in.get(model, 0) + 1

    def _refuse(self, scope: Scope, model: ServedModel, refusal: CapacityError) -> Whole:
        with self._ledger.open(scope) as trace:
            trace.metrics = model.metrics
            return self._whole(scope, problems.respond(scope, refusal), trace)

    def _room(self, handler: Handler) -> Room:
        """Return a handler and what surrounds it, as `Envelope` does for all others."""

        async def answer(caller: Caller) -> Whole | None:
            request = Request(caller.scope, caller.receive)
            with self._ledger.open(caller.scope) as trace:
                try:
                    response = await handler(request)
                except (ClientDisconnect, asyncio.CancelledError):
                    if caller.disconnected:
                        self._ledger.report(caller.scope, trace, CLIENT_LEFT)
                        return None
                    response = problems.respond(caller.scope, unfinished())
                except Exception as error:
                    response = problems.respond(caller.scope, error)
                return self._whole(caller.scope, response, trace)

        return answer

    def _whole(self, scope: Scope, response: Response, trace: Trace) -> Whole:
        told = response.raw_headers + headers(trace)
        self._ledger.report(scope, trace, response.status_code)
        return response.status_code, told, bytes(response.body)
