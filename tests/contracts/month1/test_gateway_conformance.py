"""What a gateway owes its callers and its services, asked of ours and of nginx alike.

Each claim runs against both. Where nginx cannot do what ours does, the difference is written down
in month1_caching_gateway/edge/differences.py, and has a check here that holds each to its side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from month1_caching_gateway.edge import DIFFERENCES
from scalelab.lab.runtime import Runtime
from tests.contracts.month1.gateway_doors import (
    CAPACITY,
    GOOD,
    Door,
    answer,
    dead_port,
    lines,
    nginx_gateway,
    our_gateway,
)
from tests.integration.month1.gateway.harness import Got, client, peer


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for the module: the doors live in it."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def both_doors(runtime: Runtime, anyio_backend: object) -> AsyncIterator[dict[str, Door]]:
    """Both gateways, started once."""
    async with (
        peer(answer) as ours_app,
        peer(answer) as nginx_app,
        dead_port() as gone,
        our_gateway(ours_app, gone) as ours,
        nginx_gateway(nginx_app, gone, runtime) as nginx,
    ):
        yield {"ours": ours, "nginx": nginx}


@pytest.fixture
def doors(both_doors: dict[str, Door]) -> dict[str, Door]:
    """Both, nothing seen yet."""
    for door in both_doors.values():
        door.app.seen.clear()
    return both_doors


@pytest.fixture(params=["ours", "nginx"])
def door(doors: dict[str, Door], request: pytest.FixtureRequest) -> Door:
    """One gateway after the other."""
    return doors[request.param]


def problem(got: Got, status: int, code: str) -> None:
    """The answer is this problem document, and nobody may keep it."""
    assert (got.status, got.code) == (status, code)
    assert got.problem["status"] == status
    assert got.problem["request_id"] == got.headers["x-request-id"]
    assert got.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/open/1"),
        ("HEAD", "/open/1"),
        ("GET", "/open/special"),
        ("GET", "/open/1?a=b&c=%2F%00"),
        ("GET", "/files"),
        ("GET", "/files/"),
        ("POST", "/files/a/b/c"),
        ("GET", "/files/a%20b"),
        ("GET", "/files/~x/a.b-c_d"),
    ],
)
async def test_a_request_reaches_its_service_as_it_was_asked(
    door: Door, method: str, target: str
) -> None:
    """Method and target unchanged, once."""
    got = await door.ask(method, target)
    assert got.status == 200
    assert [(seen.method, seen.target) for seen in door.app.seen] == [(method, target)]
    assert got.headers["x-ok"] == "kept"


@pytest.mark.parametrize(
    "target", ["/", "/open", "/open/", "/open/1/2", "/filesystem", "/OPEN/1", "/internal/v1/prices"]
)
async def test_what_is_not_listed_does_not_exist(door: Door, target: str) -> None:
    """404 for every path that no route matches; case and slashes count."""
    problem(await door.ask("GET", target), 404, "unknown_route")
    assert door.app.seen == []


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("DELETE", "/open/1", {"GET", "HEAD", "PUT"}),
        ("DELETE", "/open/special", {"GET", "HEAD", "PUT"}),
        ("PUT", "/files/a", {"GET", "HEAD", "POST"}),
        ("GET", "/small", {"POST"}),
    ],
)
async def test_another_method_is_405_and_says_which(
    door: Door, method: str, target: str, allow: set[str]
) -> None:
    """Every method that some matching route takes."""
    got = await door.ask(method, target)
    problem(got, 405, "method_not_allowed")
    assert {name.strip() for name in got.headers["allow"].split(",")} == allow


async def test_a_less_specific_route_takes_the_method_that_the_first_one_does_not(
    door: Door,
) -> None:
    """/open/special takes GET only; PUT falls through to /open/{id}, with its conditions."""
    problem(await door.ask("PUT", "/open/special", b"x"), 401, "token_invalid")
    assert (await door.ask("PUT", "/open/special", b"x", **GOOD)).status == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "token_invalid"),
        ({"Authorization": "Basic Zm9vOmJhcg=="}, 401, "token_malformed"),
        ({"Authorization": "Bearer bad"}, 401, "token_invalid"),
        ({"Authorization": "Bearer good good"}, 401, "token_malformed"),
    ],
    ids=["none", "basic", "unknown", "two-words"],
)
async def test_without_a_good_token_a_closed_route_is_401(
    door: Door, headers: dict[str, str], status: int, code: str
) -> None:
    """And the service hears nothing."""
    got = await door.ask("GET", "/mine", **headers)
    problem(got, status, code)
    assert "bearer" in got.headers["www-authenticate"].lower()
    assert door.app.seen == []


async def test_two_credentials_are_400(door: Door) -> None:
    """Gateway and service could each take another one of them."""
    twice = b"Authorization: Bearer good\r\nAuthorization: Bearer bad\r\n\r\n"
    problem(
        await door.raw(b"GET /mine HTTP/1.1\r\nHost: localhost\r\n" + twice), 400, "bad_request"
    )
    assert door.app.seen == []


async def test_a_good_token_passes_and_travels_on(door: Door) -> None:
    """The service verifies by itself, so it gets the token."""
    got = await door.ask("GET", "/mine", **GOOD)
    assert "authorization: Bearer good" in lines(got)


async def test_a_token_without_the_scope_is_403(door: Door) -> None:
    """Known, and not allowed."""
    problem(await door.ask("GET", "/other", **GOOD), 403, "scope_missing")
    assert door.app.seen == []


async def test_the_allowance_is_the_capacity_and_then_429(doors: dict[str, Door]) -> None:
    """One bucket for all paths of a policy; Retry-After is a whole number of seconds."""
    for door in doors.values():
        statuses = [(await door.ask("GET", f"/few/{n}")).status for n in range(CAPACITY)]
        assert statuses == [200] * CAPACITY
        got = await door.ask("GET", "/few/again")
        problem(got, 429, "rate_limited")
        assert int(got.headers["retry-after"]) >= 1
        assert len(door.app.seen) == CAPACITY


@pytest.mark.parametrize(
    ("key", "status"), [("k-1", 200), ("", 400), ("x" * 256, 400)], ids=["good", "empty", "long"]
)
async def test_a_route_that_demands_a_key_gets_one(door: Door, key: str, status: int) -> None:
    """From a known caller; without it nothing is forwarded."""
    got = await door.ask("POST", "/keyed", b"x", Idempotency_Key=key, **GOOD)
    assert got.status == status
    if status == 400:
        problem(got, 400, "idempotency_key_missing" if not key else "idempotency_key_invalid")
    assert len(door.app.seen) == (status == 200)


@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 413)])
async def test_a_body_over_the_routes_limit_is_413(door: Door, size: int, status: int) -> None:
    """Judged before the service hears of it."""
    got = await door.ask("POST", "/small", b"x" * size)
    assert got.status == status
    if status == 413:
        problem(got, 413, "body_too_large")
    assert len(door.app.seen) == (status == 200)


async def test_a_body_over_the_gateways_limit_is_413(door: Door) -> None:
    """A mebibyte, where the route says nothing."""
    head = b"POST /files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048577\r\n\r\n"
    assert (await door.raw(head)).status == 413
    assert door.app.seen == []


@pytest.mark.parametrize(
    "target",
    [
        "//open/1",
        "/open//1",
        "/open/../mine",
        "/open/.",
        "/open/%2e%2e/mine",
        "/open%2f1",
        "/open/%5c",
        "/open/%2525",
        "/open/a%00",
        "/open/a%0d%0aX:1",
        "/open/1;/mine",
        "/open/\\1",
        "/open/a%3b",
        "/open/%c0%ae%2e",
    ],
)
async def test_a_path_with_two_meanings_is_refused(door: Door, target: str) -> None:
    """Not by the gateway's reading alone: the service's may be another."""
    got = await door.ask("GET", target)
    assert got.status == 400
    assert door.app.seen == []


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1"])
async def test_an_unknown_host_is_421(door: Door, host: str) -> None:
    """DNS rebinding: a name that is not ours."""
    got = await door.raw(b"GET /open/1 HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
    problem(got, 421, "misdirected_request")
    assert door.app.seen == []


async def test_claims_and_hop_by_hop_headers_do_not_pass(door: Door) -> None:
    """What the service reads of these names is the gateway's own."""
    got = await door.ask(
        "GET",
        "/open/1",
        X_User="admin",
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="evil.example",
        X_Request_ID="mine",
        X_Real_IP="6.6.6.6",
        Forwarded="for=6.6.6.6",
        X_HTTP_Method_Override="DELETE",
        X_Original_URL="/mine",
        Keep_Alive="timeout=1",
        TE="trailers",
        Proxy_Authorization="Basic x",
        X_Good="kept",
    )
    seen = dict(line.split(": ", 1) for line in lines(got)[2:])
    gone = {"x-user", "x-real-ip", "forwarded", "x-http-method-override", "x-original-url"}
    assert not seen.keys() & (gone | {"keep-alive", "te", "proxy-authorization", "connection"})
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == "localhost"
    assert seen["x-request-id"] == got.headers["x-request-id"] not in ("mine", "theirs")
    assert seen["traceparent"].startswith("00-")
    assert seen["x-good"] == "kept"


async def test_underscores_in_names_do_not_pass(door: Door) -> None:
    """Some services read them as dashes."""
    wire = b"GET /open/1 HTTP/1.1\r\nHost: localhost\r\nX_User: admin\r\nX_Any: 1\r\n\r\n"
    names = [line.partition(":")[0] for line in lines(await door.raw(wire))[2:]]
    assert not any("_" in name for name in names)


async def test_a_service_that_is_gone_is_502_or_503(door: Door) -> None:
    """A problem document, never an empty page."""
    got = await door.ask("GET", "/gone")
    assert got.status in (502, 503)
    assert got.problem["status"] == got.status


async def test_a_service_that_does_not_answer_is_504(door: Door) -> None:
    """After the route's time."""
    problem(await door.ask("GET", "/slow"), 504, "upstream_timeout")


async def test_requests_on_one_connection_are_answered_in_order(door: Door) -> None:
    """Pipelined, good and bad ones mixed."""
    async with client(door.port) as http:
        await http.send(
            b"".join(
                b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path
                for path in (b"/open/1", b"/nothing", b"/open/2")
            )
        )
        assert [(await http.answer()).status for _ in range(3)] == [200, 404, 200]


Check = Callable[[dict[str, Door]], Awaitable[tuple[object, object]]]
CHECKS: dict[str, Check] = {}


def difference(check: Check) -> Check:
    """Register a check under its name."""
    CHECKS[check.__name__] = check
    return check


async def both(doors: dict[str, Door], ask: Callable[[Door], Awaitable[Got]]) -> tuple[Got, Got]:
    """The same question to each."""
    first, second = await asyncio.gather(ask(doors["ours"]), ask(doors["nginx"]))
    return first, second


@difference
async def count_per_user(doors: dict[str, Door]) -> tuple[object, object]:
    """A user's allowance is whole although the address's is used up."""
    for door in doors.values():
        for number in range(CAPACITY):
            await door.ask("GET", f"/drained/{number}")
    ours, nginx = await both(doors, lambda door: door.ask("GET", "/drained-mine", **GOOD))
    return ours.status == 200, nginx.status == 429


@difference
async def allowance_headers(doors: dict[str, Door]) -> tuple[object, object]:
    """On an answer of a limited route."""
    ours, nginx = await both(doors, lambda door: door.ask("GET", "/counted"))
    return "ratelimit-limit" in ours.headers, "ratelimit-limit" not in nginx.headers


@difference
async def key_before_identity(doors: dict[str, Door]) -> tuple[object, object]:
    """A stranger without a key."""
    ours, nginx = await both(doors, lambda door: door.ask("POST", "/keyed", b"x"))
    return ours.status == 401, nginx.status == 400


@difference
async def escaped_letters(doors: dict[str, Door]) -> tuple[object, object]:
    """%6f is an o."""
    ours, nginx = await both(doors, lambda door: door.ask("GET", "/%6fpen/1"))
    return (ours.status, lines(ours)[1]) == (200, "/open/1"), nginx.status == 400


@difference
async def escapes_that_are_no_text(doors: dict[str, Door]) -> tuple[object, object]:
    """%ff begins no character."""
    ours, nginx = await both(doors, lambda door: door.ask("GET", "/open/%ff"))
    return ours.status == 400, lines(nginx)[1] == "/open/%ff"


@difference
async def named_in_connection(doors: dict[str, Door]) -> tuple[object, object]:
    """`Connection: X-Hop`."""
    ours, nginx = await both(
        doors, lambda door: door.ask("GET", "/open/1", X_Hop="1", Connection="X-Hop")
    )
    return "x-hop: 1" not in lines(ours), "x-hop: 1" in lines(nginx)


@difference
async def claims_by_prefix(doors: dict[str, Door]) -> tuple[object, object]:
    """A claim that nobody has listed."""
    ours, nginx = await both(doors, lambda door: door.ask("GET", "/open/1", X_User_Plan="gold"))
    return "x-user-plan: gold" not in lines(ours), "x-user-plan: gold" in lines(nginx)


@difference
async def internal_answer_headers(doors: dict[str, Door]) -> tuple[object, object]:
    """The service says something that is not for clients."""
    ours, nginx = await both(doors, lambda door: door.ask("GET", "/open/1"))
    return "x-internal-secret" not in ours.headers, "x-internal-secret" in nginx.headers


@difference
async def server_header(doors: dict[str, Door]) -> tuple[object, object]:
    """Who answers."""
    ours, nginx = await both(doors, lambda door: door.ask("GET", "/open/1"))
    return "server" not in ours.headers, nginx.headers["server"] == "nginx"


@difference
async def absolute_form(doors: dict[str, Door]) -> tuple[object, object]:
    """GET http://localhost/open/1."""
    wire = b"GET http://localhost/open/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ours, nginx = await both(doors, lambda door: door.raw(wire))
    return ours.status == 400, lines(nginx)[1] == "/open/1"


@pytest.mark.parametrize("name", sorted(one.name for one in DIFFERENCES))
async def test_each_keeps_to_its_side_of_a_stated_difference(
    doors: dict[str, Door], name: str
) -> None:
    """As the table says; an entry without a check, or with a difference that is gone, fails."""
    assert await CHECKS[name](doors) == (True, True)


def test_every_check_stands_in_the_table() -> None:
    """No difference is checked that readers are not told of."""
    assert set(CHECKS) == {one.name for one in DIFFERENCES}
