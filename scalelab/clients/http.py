"""Calls to another service over HTTP: deadline, trace context, the peer's problems as our errors.

One outbound call, three outcomes a caller can act on:

    it never left        refused, DNS, connect time-out           -> Unavailable
    it left, no answer   read time-out, connection lost, 502, 504 -> OutcomeUnknown
    it was answered      a problem document or a status           -> the class of that problem

GET and HEAD change nothing, so for them the second is Unavailable too.
Source: RFC 9110 (methods, statuses), RFC 9457 (problem documents), W3C Trace Context.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, cast

import aiohttp

from scalelab.clients.problems import error_for_answer
from scalelab.errors import CorruptData, OutcomeUnknown, ScalelabError, TooLarge, Unavailable
from scalelab.telemetry import inject

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_ANSWER_MAX_BYTES = 8 * 1024 * 1024

T = TypeVar("T")


class CallGuard(Protocol):
    """What this client needs of `scalelab.resilience.Guard`."""

    async def call(self, fn: Callable[[], Awaitable[T]], *, idempotent: bool) -> T: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response. headers: names in lower case. body: at most 8 MiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; CorruptData if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise CorruptData(f"the answer is not JSON: {self.body[:80]!r}") from error


class HttpClient:
    """A keep-alive client of one peer; an async context manager.

    base_url: scheme, host and port, no trailing slash. guard: around every call, if given.
    timeout_s: for one attempt. headers: sent with each call. bearer: gives a token per call.
    """

    def __init__(
        self,
        base_url: str,
        *,
        guard: CallGuard | None = None,
        timeout_s: float = 2.0,
        connect_timeout_s: float = 0.5,
        headers: Mapping[str, str] | None = None,
        bearer: Callable[[], Awaitable[str]] | None = None,
        max_connections: int = 64,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._guard = guard
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._headers = dict(headers or {})
        self._bearer = bearer
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json_body: object | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout_s: float | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send one call and return its answer when the status is 2xx, 304 or in `accept`.

        idempotent: whether a repeat does no harm; default: by method, or true with an
        Idempotency-Key header. Raises the error classes of the module docstring.
        """
        call = _Call(method, self._base_url + path, params, json_body, form, headers or {})
        limit_s = self._timeout_s if timeout_s is None else timeout_s

        async def attempt() -> Answer:
            answer = await self._attempt(call, limit_s)
            if 200 <= answer.status < 300 or answer.status == 304 or answer.status in accept:
                return answer
            raise error_for_answer(
                answer.status, answer.headers, answer.body, safe=method in _SAFE_METHODS
            )

        if self._guard is None:
            return await attempt()
        repeatable = call.is_idempotent if idempotent is None else idempotent
        return await self._guard.call(attempt, idempotent=repeatable)

    async def get(self, path: str, **options: Any) -> Answer:
        """`request` with method GET."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, json_body: object | None = None, **options: Any) -> Answer:
        """`request` with method POST."""
        return await self.request("POST", path, json_body=json_body, **options)

    async def put(self, path: str, json_body: object | None = None, **options: Any) -> Answer:
        """`request` with method PUT."""
        return await self.request("PUT", path, json_body=json_body, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        """`request` with method DELETE."""
        return await self.request("DELETE", path, **options)

    async def _attempt(self, call: _Call, limit_s: float) -> Answer:
        if self._session is None:
            raise RuntimeError("HttpClient is used outside its async context")
        sent_headers = {**self._headers, **call.headers}
        inject(sent_headers)
        if self._bearer is not None:
            sent_headers["Authorization"] = f"Bearer {await self._bearer()}"
        timeout = aiohttp.ClientTimeout(
            total=limit_s, sock_connect=min(limit_s, self._connect_timeout_s)
        )
        try:
            async with self._session.request(
                call.method,
                call.url,
                params=call.params,
                json=call.json_body,
                data=call.form,
                headers=sent_headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                body = await _read_bounded(response)
                names = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, names, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _failure(error, call, limit_s) from error


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    url: str
    params: Mapping[str, str] | None
    json_body: object | None
    form: Mapping[str, str] | None
    headers: Mapping[str, str]

    @property
    def is_idempotent(self) -> bool:
        keyed = any(name.lower() == "idempotency-key" for name in self.headers)
        return keyed or self.method in _IDEMPOTENT_METHODS


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _ANSWER_MAX_BYTES:
            raise TooLarge(f"the answer of {response.url} exceeds {_ANSWER_MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _failure(error: Exception, call: _Call, limit_s: float) -> ScalelabError:
    """Which of "never left" and "left, no answer" a client error is."""
    never_left = (
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.InvalidURL,
    )
    where = f"{call.method} {call.url}"
    if isinstance(error, never_left):
        return Unavailable(f"{where}: {error}", code="peer_unavailable")
    if isinstance(error, asyncio.TimeoutError):
        said = f"{where}: no answer within {limit_s} s"
    else:
        said = f"{where}: {cast('object', error)!r}"
    if call.method in _SAFE_METHODS:
        return Unavailable(said, code="peer_unavailable")
    return OutcomeUnknown(said)
