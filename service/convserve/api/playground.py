"""The playground: a page that asks the models, its static files, and the models' own samples."""

import asyncio
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import PurePath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from convserve.manifest import Golden
from convserve.repository import Repository

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing inline, nothing remote; blob: is how a dropped picture or sound is shown.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# A sample is data of the store: a browser that opens it alone must not run what it may hold.
SANDBOX = HEADERS | {"Content-Security-Policy": "default-src 'none'; sandbox"}


def page(request: Request) -> Response:
    """Return the page itself."""
    return _file(request, "index.html")


async def static(request: Request) -> Response:
    """Return one of the page's files."""
    name = request.path_params["file"]
    if name not in names():
        raise HTTPException(404)
    return _file(request, name)


async def sample(request: Request) -> Response:
    """Return a raw input that the artifact carries to prove itself."""
    repository: Repository = request.app.repository
    name, version, file = (request.path_params[key] for key in ("name", "version", "sample"))
    entry = repository.entries.get(name, version)
    if not entry or not entry.manifest:
        raise HTTPException(404)
    golden = next((golden for golden in entry.manifest.goldens if _name(golden) == file), None)
    if not golden:
        raise HTTPException(404)
    content = await asyncio.to_thread((entry.path / golden.input).read_bytes)
    return _reply(request, content, golden.media_type, SANDBOX)


@cache
def names() -> frozenset[str]:
    """Return the names of the page's files."""
    return frozenset(file.name for file in (files("convserve.api") / "static").iterdir())


def _name(golden: Golden) -> str:
    return PurePath(golden.input).name


def _file(request: Request, name: str) -> Response:
    return _reply(request, _content(name), MEDIA_TYPES[PurePath(name).suffix], HEADERS)


@cache
def _content(name: str) -> bytes:
    return (files("convserve.api") / "static" / name).read_bytes()


def _reply(request: Request, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(content, media_type=media_type, headers=headers | {"ETag": tag})
