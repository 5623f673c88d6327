"""The HTTP client against a real server on loopback: what a caller may conclude."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace import TracerProvider

from scalelab.clients.http import HttpClient
from scalelab.errors import (
    Conflict,
    CorruptData,
    OutcomeUnknown,
    RateLimited,
    ScalelabError,
    Unavailable,
)
from scalelab.resilience import Backoff, Guard, RetryPolicy


class Peer:
    """A server that does what its path says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        match request.path:
            case "/echo":
                return web.json_response({"query": dict(request.query)})
            case "/silent":
                await asyncio.Event().wait()
            case "/hang-up" if request.transport is not None:
                request.transport.close()
            case "/flaky" if len(self.asked) < 3:
                return problem(503, "unavailable", retry_after="0")
            case "/stock":
                return problem(409, "out_of_stock")
            case "/limited":
                return problem(429, "rate_limited", retry_after="7")
            case "/gateway":
                return web.Response(status=502, text="<html>bad gateway</html>")
            case _:
                pass
        return web.Response(text="fine")


def problem(status: int, code: str, retry_after: str | None = None) -> web.Response:
    document = {"type": "about:blank", "status": status, "code": code, "detail": "because"}
    headers = {"Retry-After": retry_after} if retry_after else {}
    return web.Response(
        status=status,
        body=json.dumps(document),
        content_type="application/problem+json",
        headers=headers,
    )


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
async def base_url(peer: Peer) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", peer.answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_an_answer_comes_whole_and_the_trace_goes_along(base_url: str, peer: Peer) -> None:
    """Query, body, lower-case header names, bearer token and traceparent."""

    async def bearer() -> str:
        return "token"

    tracer = TracerProvider().get_tracer("test")
    async with HttpClient(base_url, headers={"X-Me": "test"}, bearer=bearer) as client:
        with tracer.start_as_current_span("caller") as span:
            answer = await client.get("/echo", params={"a": "1&2"})
        trace_id = f"{span.get_span_context().trace_id:032x}"
    assert answer.json() == {"query": {"a": "1&2"}}
    assert answer.headers["content-type"].startswith("application/json")
    sent = peer.asked[0].headers
    assert (sent["X-Me"], sent["Authorization"]) == ("test", "Bearer token")
    assert trace_id in sent["traceparent"]


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("/stock", Conflict, "out_of_stock"),
        ("/limited", RateLimited, "rate_limited"),
        ("/gateway", OutcomeUnknown, "outcome_unknown"),
        ("/silent", OutcomeUnknown, "outcome_unknown"),
        ("/hang-up", OutcomeUnknown, "outcome_unknown"),
    ],
)
async def test_a_post_that_fails_says_what_may_be_concluded(
    base_url: str, path: str, kind: type[ScalelabError], code: str
) -> None:
    """The peer's problem in its own class; silence and lost connections as unknown."""
    async with HttpClient(base_url, timeout_s=0.3) as client:
        with pytest.raises(kind) as refusal:
            await client.post(path, {"n": 1})
    assert refusal.value.stable_code == code


@pytest.mark.parametrize("path", ["/silent", "/hang-up", "/gateway"])
async def test_a_get_that_fails_changed_nothing(base_url: str, path: str) -> None:
    """Reads are Unavailable where a write would be unknown."""
    async with HttpClient(base_url, timeout_s=0.3) as client:
        with pytest.raises(Unavailable):
            await client.get(path)


async def test_a_refused_connection_is_unavailable_for_any_method() -> None:
    """It never left."""
    async with HttpClient("http://127.0.0.1:1") as client:
        with pytest.raises(Unavailable):
            await client.post("/x", {})


async def test_the_peers_wish_to_wait_is_kept(base_url: str) -> None:
    """Retry-After in seconds."""
    async with HttpClient(base_url) as client:
        with pytest.raises(RateLimited) as refusal:
            await client.get("/limited")
    assert refusal.value.retry_after_s == 7.0


async def test_an_accepted_status_is_an_answer(base_url: str) -> None:
    """A caller that reckons with 409 gets it as a value."""
    async with HttpClient(base_url) as client:
        answer = await client.post("/stock", {}, accept=frozenset({409}))
    assert (answer.status, answer.json()["code"]) == (409, "out_of_stock")


@pytest.mark.parametrize(("key", "calls"), [({"Idempotency-Key": "k"}, 3), ({}, 3)])
async def test_a_guard_repeats_what_was_not_carried_out(
    base_url: str, peer: Peer, key: dict[str, str], calls: int
) -> None:
    """503 says that nothing was changed, so even a POST without a key is repeated."""
    guard = Guard("peer", retry=RetryPolicy(3, Backoff(0.0, 1.0, 0.0)))
    async with HttpClient(base_url, guard=guard) as client:
        answer = await client.post("/flaky", {}, headers=key)
    assert answer.status == 200
    assert len(peer.asked) == calls


@pytest.mark.parametrize(("key", "calls"), [({"Idempotency-Key": "k"}, 2), ({}, 1)])
async def test_a_guard_repeats_an_unknown_outcome_only_with_a_key(
    base_url: str, peer: Peer, key: dict[str, str], calls: int
) -> None:
    """The key makes the repeat harmless; without it there is one try."""
    guard = Guard("peer", retry=RetryPolicy(2, Backoff(0.0, 1.0, 0.0)))
    async with HttpClient(base_url, guard=guard) as client:
        with pytest.raises(OutcomeUnknown):
            await client.post("/hang-up", {}, headers=key)
    assert len(peer.asked) == calls


async def test_an_answer_that_is_not_json_is_corrupt(base_url: str) -> None:
    """Never a KeyError three layers up."""
    async with HttpClient(base_url) as client:
        answer = await client.get("/fine")
    with pytest.raises(CorruptData):
        answer.json()
