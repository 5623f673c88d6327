"""The tiny service that nginx asks before it forwards: is this token good, and for this?

`GET /verify` with the caller's Authorization, and X-Scope where the route wants one: 204 with
X-Subject, or 401, 403, 503 with X-Refusal, the code that our own gateway would give. A gateway of
somebody else gets its decision here, and the keys stay in one place.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Response

from month1_caching_gateway.gateway.identity import Verifier, bearer
from scalelab.errors import Forbidden, ScalelabError
from scalelab.telemetry import Telemetry
from scalelab.web import create_app
from scalelab.web.problem import from_error


def create_verifier_app(verifier: Verifier, *, telemetry: Telemetry) -> FastAPI:
    """The service around a token verifier. It listens where only the gateway reaches it."""
    router = APIRouter(tags=["verify"])

    @router.get("/verify", status_code=204)
    async def verify(
        authorization: Annotated[str | None, Header()] = None,
        x_scope: Annotated[str, Header()] = "",
    ) -> Response:
        """Decide on one request by its headers."""
        try:
            raw = None if authorization is None else authorization.encode("latin-1", "replace")
            principal = await verifier.verify(bearer(raw))
            if x_scope and x_scope not in principal.scopes:
                raise Forbidden("The token does not allow this.", code="scope_missing")
        except ScalelabError as error:
            problem = from_error(error)
            headers = {**problem.headers, "X-Refusal": problem.code}
            return Response(status_code=problem.status, headers=headers)
        return Response(status_code=204, headers={"X-Subject": principal.subject})

    return create_app(telemetry=telemetry, title="Verifier", routers=[router])
