"""The reference page of a service, /docs: its OpenAPI description, drawn by a script of our own.

The usual pages load their script from elsewhere; here nothing does, so the page works without a
network and its Content-Security-Policy names this service alone. It stands on the service's own
port, never behind the public door.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
}


def docs_routes() -> list[Route]:
    """GET /docs, /docs/page.js and /docs/page.css; they stand outside the API's schema."""
    return [
        _file_route("/docs", "docs_page.html", "text/html"),
        _file_route("/docs/page.js", "docs_page.js", "text/javascript"),
        _file_route("/docs/page.css", "docs_page.css", "text/css"),
    ]


def _file_route(path: str, name: str, media_type: str) -> Route:
    file = Path(__file__).with_name(name)

    def answer(_request: Request) -> Response:
        # Read when asked for: most processes are never asked. Starlette runs this in a thread.
        return Response(file.read_bytes(), media_type=media_type, headers=_HEADERS)

    return Route(path, answer)
