"""Refusals at the door: before any layer, and before the body is read.

Under overload most requests are refused, and what that takes is taken from those that are answered.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.routing import compile_path
from starlette.types import Scope

from convserve.api import problems
from convserve.api.middleware import Ledger, headers
from convserve.api.operations import Operation
from convserve.api.reading import ADMITTED, deadline
from convserve.errors import CallerError, CapacityError
from convserve.repository import Repository
from convserve.served_model import ServedModel
from convserve.telemetry import REQUEST_ID

Whole = tuple[int, list[tuple[bytes, bytes]], bytes]
"""An answer: status, headers, body."""


class Door:
    """Refuses what the `operations`, which ask a model, would refuse for want of capacity.

    All else it leaves to the application, which need not look whether there is room again.
    """

    def __init__(self, app: FastAPI, ledger: Ledger, operations: Iterable[Operation]) -> None:
        self._app = app
        self._repository: Repository = app.state.repository
        self._ledger = ledger
        self._paths = [(entry.method, compile_path(entry.path)[0]) for entry in operations]
        self._target = lru_cache(maxsize=256)(self._find)
        self._let_in = Counter[ServedModel]()

    def __call__(self, scope: Scope) -> Whole | None:
        """Return the refusal of a request whose body was not read, None if it may come in."""
        path = scope["path"].removeprefix(scope["root_path"])
        target = self._target(scope["method"], path)
        model = None if target is None else self._repository.at_hand(**target)
        if model is None:
            return None
        scope["app"] = self._app
        try:
            model.admit(deadline(Request(scope)), coming=self._let_in[model])
        except CapacityError as refusal:
            return self._refuse(scope, model, refusal)
        except CallerError:
            return None
        self._let(model)
        scope[ADMITTED] = True
        return None

    def _let(self, model: ServedModel) -> None:
        """Count who comes in until this turn of the event loop ends, and the model knows of it."""
        if not self._let_in:
            asyncio.get_running_loop().call_soon(self._let_in.clear)
        self._let_in[model] += 1

    def _find(self, method: str, path: str) -> dict[str, Any] | None:
        """Return which model a request asks, None if it asks none."""
        for taken, pattern in self._paths:
            if taken == method and (match := pattern.match(path)):
                return match.groupdict()
        return None

    def _refuse(self, scope: Scope, model: ServedModel, refusal: CapacityError) -> Whole:
        trace = self._ledger.begin(scope)
        trace.metrics = model.metrics
        token = REQUEST_ID.set(trace.request_id)
        response = problems.respond(Request(scope), refusal)
        told = response.raw_headers + headers(trace)
        self._ledger.report(scope, trace, response.status_code)
        REQUEST_ID.reset(token)
        return response.status_code, told, bytes(response.body)
