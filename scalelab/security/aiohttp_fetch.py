"""The two HTTP calls of token handling, over aiohttp: read a JWKS, ask for a token.

Rare calls, so each opens a connection of its own and nothing has to be closed at the end.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote_plus

import aiohttp

from scalelab.errors import Unauthenticated, Unavailable

BODY_LIMIT = 64 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


async def fetch(url: str) -> bytes:
    """GET `url`; the body of a 200 answer, at most 64 KiB. Unavailable otherwise (3 s at most)."""
    return await _call("GET", url)


async def post_form(url: str, fields: Mapping[str, str], basic: tuple[str, str]) -> bytes:
    """POST a form with Basic authentication; the body of a 200 answer, at most 64 KiB.

    Raises Unauthenticated (code client_refused) for 400 and 401, Unavailable otherwise. Asking
    twice for a token is harmless, so a lost answer is Unavailable as well.
    """
    # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined by a colon.
    credentials = ":".join(quote_plus(part) for part in basic).encode()
    headers = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}
    return await _call("POST", url, data=dict(fields), headers=headers)


async def _call(
    method: str,
    url: str,
    *,
    data: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.request(
                method, url, data=data, headers=headers, allow_redirects=False
            ) as answer,
        ):
            body = await answer.content.read(BODY_LIMIT + 1)
            while not answer.content.at_eof() and len(body) <= BODY_LIMIT:
                body += await answer.content.read(BODY_LIMIT + 1)
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"{url} did not answer") from error
    if status in (400, 401):
        raise Unauthenticated(f"{url} refused the client", code="client_refused")
    if status != 200 or len(body) > BODY_LIMIT:
        raise Unavailable(f"{url} answered {status} with {len(body)} bytes")
    return body
