"""Server-side lookup: callers know one address, and this proxy knows the instances.

One more hop and one more thing to keep alive, in return for callers that know nothing: no library,
no view, no retries of their own. It balances as `BalancedClient` does.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response

from month5_kvstore.discovery.balanced import BalancedClient
from scalelab.telemetry import Telemetry
from scalelab.web.app import create_app


def create_lookup_proxy(balanced: BalancedClient, telemetry: Telemetry) -> FastAPI:
    """GET of any path below /to/, answered by some instance with the rest of the path."""
    router = APIRouter()

    @router.get("/to/{path:path}")
    async def forward(path: str, request: Request) -> Response:
        """What an instance answers; its problems are passed on as they are."""
        params = dict(request.query_params)
        answer = await balanced.request("GET", f"/{path}", params=params)
        kind = answer.headers.get("content-type", "application/octet-stream")
        return Response(answer.body, answer.status, media_type=kind)

    return create_app(telemetry=telemetry, routers=[router], title="lookup proxy")
