"""Idempotency keys at the HTTP edge: the header as a dependency, a stored answer as a response."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Response

from scalelab.web.idempotency import StoredAnswer, parse_key
from scalelab.web.openapi import REQUIRED_AS

REPLAYED = "Idempotency-Replayed"
"""Header "true" on an answer that comes from the record and not from a new effect."""


async def _key(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="1 to 255 visible ASCII characters. Required. The same key with the "
            "same body gets the first answer again.",
            # Optional for the framework, so that a missing key gets our code; see openapi.py.
            json_schema_extra={
                REQUIRED_AS: {"type": "string", "pattern": "^[\\x21-\\x7e]{1,255}$"}
            },
        ),
    ] = None,
) -> str:
    return parse_key(idempotency_key)


IdempotencyKey = Annotated[str, Depends(_key)]
"""Parameter type of a route that demands the header; 400 if it is missing or not sane."""


def answer_response(answer: StoredAnswer, *, replayed: bool) -> Response:
    """The answer as a response: the first time and every time after, byte for byte (K2)."""
    headers = dict(answer.headers)
    if replayed:
        headers[REPLAYED] = "true"
    headers.setdefault("content-type", "application/json")
    return Response(answer.body, answer.status, headers)
