"""Pages to read: where to go, what there is, what went wrong; no script, nothing remote."""

from collections.abc import Iterator
from html import escape

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from convserve.api import playground
from convserve.api.problems import PROBLEMS
from convserve.api.schemas import Object
from convserve.api.written import Written

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark}code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow-x:auto}"
    "h2{margin-top:2rem}"
)
LINKS = {
    "models": "/v1/models",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "metrics": "/metrics",
}


async def index(request: Request) -> Response:
    """Return the playground, or say where to go."""
    if _wants_html(request):
        return playground.page(request)
    root = request.scope.get("root_path", "")
    return _json({"service": "convserve", **{name: root + path for name, path in LINKS.items()}})


async def problem(request: Request) -> Response:
    """Explain an error code: what causes it, what mends it."""
    code = request.path_params["code"]
    if code not in PROBLEMS:
        raise HTTPException(404)
    known = PROBLEMS[code]
    content = {
        "code": code,
        "status": known.status,
        "title": known.title,
        "cause": known.cause,
        "remedy": known.remedy,
    }
    if not _wants_html(request):
        return _json(content)
    body = f"<p><code>{code}</code>, status {known.status}</p>"
    body += f"<h2>Cause</h2><p>{escape(known.cause)}</p>"
    body += f"<h2>Remedy</h2><p>{escape(known.remedy)}</p>"
    return _page(known.title, body)


async def openapi(request: Request) -> Response:
    """Return the OpenAPI document; behind a proxy's prefix it names that as its server."""
    root = request.scope.get("root_path", "")
    return _json({**request.app.openapi(), "servers": [{"url": root or "/"}]})


async def docs(request: Request) -> Response:
    """Return the OpenAPI document as a page that works offline."""
    document = request.app.openapi()
    sections = (
        section
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for section in _section(method.upper(), path, operation)
    )
    return _page("convserve: HTTP interface", "".join(sections))


def _section(method: str, path: str, operation: Object) -> Iterator[str]:
    yield f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
    for parameter in operation["parameters"]:
        about = parameter.get("description") or parameter["schema"].get("description", "")
        name = f"<code>{escape(parameter['name'])}</code> ({parameter['in']})"
        yield f"<p>{name} {escape(about)}</p>"
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(media)}</code></p>"
        for example in body.get("examples", {}).values():
            text = orjson.dumps(example["value"], option=orjson.OPT_INDENT_2).decode()
            yield f"<pre>{escape(text)}</pre>"
    yield "<ul>"
    for status, response in operation["responses"].items():
        yield f"<li>{status}: {escape(response['description'])}</li>"
    yield "</ul>"


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _json(content: object) -> Response:
    return Written(orjson.dumps(content))


def _page(title: str, body: str) -> HTMLResponse:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    html = f'<!doctype html><html lang="en">{head}<h1>{escape(title)}</h1>{body}</html>'
    return HTMLResponse(html, headers=SECURITY)
