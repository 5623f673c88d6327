"""Nobody says who they are, where they come from or where to go by a header of their own."""

from __future__ import annotations

import pytest

from month1_caching_gateway.gateway import GatewaySettings, Route
from tests.integration.month1.gateway.harness import Seen, client, peer, plain, running

SPOOFED = {
    "X-User": "admin",
    "X-User-Id": "1",
    "x-USER-roles": "root",
    "X-Internal-Auth": "yes",
    "X-Forwarded-For": "10.0.0.1",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Anything": "x",
    "Forwarded": "for=10.0.0.1",
    "X-Real-IP": "10.0.0.1",
    "X-Request-ID": "chosen-by-me",
    "X-HTTP-Method-Override": "DELETE",
    "X-Original-URL": "/admin",
    "X-Rewrite-URL": "/admin",
    "X_User": "admin",
    "Keep-Alive": "timeout=1",
    "TE": "trailers",
    "Trailer": "X-User",
    "Proxy-Authorization": "Basic x",
    "Proxy-Connection": "keep-alive",
    "X-Hop": "named in Connection",
    "Connection": "keep-alive, X-Hop",
}


async def test_spoofed_and_hop_by_hop_headers_do_not_pass() -> None:
    """What the service sees of these names is what the gateway itself found out."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        lines = "".join(f"{name}: {value}\r\n" for name, value in SPOOFED.items())
        lines += "X-Ok: kept\r\nAuthorization: Bearer t\r\nIdempotency-Key: k\r\n"
        await http.send(f"GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        got = await http.answer()
        seen = app.seen[0]
        ours = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"}
        assert seen.names() == {
            "host",
            "x-ok",
            "authorization",
            "idempotency-key",
            "traceparent",
            *ours,
        }
        assert seen.header("x-forwarded-for") == "127.0.0.1"
        assert seen.header("x-forwarded-proto") == "http"
        assert seen.header("x-forwarded-host") == "localhost"
        assert seen.header("x-request-id") == got.headers["x-request-id"] != "chosen-by-me"
        assert seen.header("authorization") == "Bearer t"


async def test_a_trusted_hop_is_believed_up_to_the_first_stranger() -> None:
    """Read from the right: what a stranger wrote further left counts for nothing."""
    settings = GatewaySettings(trusted_proxies=frozenset({"127.0.0.1", "10.0.0.9"}))
    async with (
        peer() as app,
        running([app], settings=settings) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask(
            "GET", "/", X_Forwarded_For="1.1.1.1, 203.0.113.7, 10.0.0.9", X_Forwarded_Proto="https"
        )
        assert app.seen[0].header("x-forwarded-for") == "203.0.113.7"
        assert app.seen[0].header("x-forwarded-proto") == "https"
        await http.ask("GET", "/", X_Forwarded_For="203.0.113.8, nonsense", X_Forwarded_Proto="x")
        assert app.seen[1].header("x-forwarded-for") == "127.0.0.1"
        assert app.seen[1].header("x-forwarded-proto") == "http"


async def test_answers_lose_what_belongs_to_one_hop_or_to_the_inside() -> None:
    """The client learns neither the server's name nor internal headers."""

    async def answer(_s: Seen, _r: object, writer: object) -> bool:
        writer.write(  # type: ignore[attr-defined]
            plain(
                200,
                b"ok",
                ("Server", "secret/1.0"),
                ("X-Internal-Node", "db-7"),
                ("Connection", "X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=5"),
                ("X-Request-ID", "theirs"),
                ("ETag", '"1"'),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
            )
        )
        return True

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:  # type: ignore[arg-type]
        await http.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = (await http.reader.readuntil(b"\r\n\r\n")).lower()
        names = {line.partition(b":")[0] for line in head.split(b"\r\n")[1:] if line}
        assert names == {b"content-length", b"etag", b"set-cookie", b"x-request-id"}
        assert head.count(b"set-cookie") == 2
        assert b"theirs" not in head
        assert len(app.seen) == 1


@pytest.mark.parametrize(
    ("given", "continued"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", True),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", False),
        ("nonsense", False),
        ("", False),
    ],
)
async def test_a_trace_is_continued_only_from_a_valid_traceparent(
    given: str, *, continued: bool
) -> None:
    """The span id is always a new one; the trace id and the flag stay if the header is valid."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        await http.ask("GET", "/", traceparent=given)
        version, trace, span, flags = (app.seen[0].header("traceparent") or "").split("-")
        assert (version, len(trace), len(span), len(flags)) == ("00", 32, 16, 2)
        assert (trace == "0af7651916cd43dd8448eb211c80319c") is continued
        assert span != "b7ad6b7169203331"
        if continued:
            assert flags == given[-2:]


PRIVATE = [
    "/admin/users",
    "/admin/",
    "/%61dmin/users",
    "/%41dmin",
    "/Admin",
    "//admin",
    "/public//admin",
    "/public/../admin",
    "/public/..%2fadmin",
    "/public/%2e%2e/admin",
    "/public/%2E%2E/admin",
    "/public/.%2e/admin",
    "/public/..;/admin",
    "/public/;/../admin",
    "/public%2f..%2fadmin",
    "/public/%252e%252e/admin",
    "/public/%5c..%5cadmin",
    "/public\\..\\admin",
    "/public/./../admin",
    "/public/%00/../admin",
    "/public/%c0%ae%c0%ae/admin",
    "/admin#x",
    "/./admin",
    "/admin%20",
    "/admin.",
    "/admin;a=b",
]


@pytest.mark.parametrize("target", PRIVATE)
async def test_no_spelling_reaches_a_private_path_as_a_stranger(target: str) -> None:
    """Refused, unknown, or asked for a token: never forwarded."""
    routes = [
        Route("app", prefix="/public", auth="none"),
        Route("app", prefix="/admin", auth="user"),
    ]
    async with peer() as app, running([app], routes) as gateway, client(gateway.port) as http:
        await http.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        got = await http.answer()
        assert got.status in (400, 401, 404)
        assert app.seen == []


async def test_what_is_forwarded_is_what_was_decided_on() -> None:
    """The service gets the one normal spelling."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        for sent, forwarded in {
            "/%61/b": "/a/b",
            "/a%2Db": "/a-b",
            "/a%c3%a9": "/a%C3%A9",
            "/a%20b?q=%2e%2e//": "/a%20b?q=%2e%2e//",
            "/.well-known/x": "/.well-known/x",
            "/a/": "/a/",
        }.items():
            assert (await http.ask("GET", sent)).status == 200
            assert app.seen[-1].target == forwarded
