"""The same bytes to the gateway and to nginx: what both pass on, both read in the same way.

Each door stands before a service of its own that counts with h11. Where the two services saw
different things, one door must have seen less, because it refused; and for every case that only
nginx takes, it is the gateway that is stricter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx
from tests.integration.month1.gateway.harness import Peer, Seen, client, peer, running
from tests.security.month1.smuggling_cases import AFTER, BEFORE, HARMLESS, REFUSED

LAST = AFTER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
"""Ends the connection, so that nobody waits for more."""

CONFIG = """
  upstream app { server 127.0.0.1:UPSTREAM; keepalive 8; }
  server {
    listen 127.0.0.1:$PORT;
    client_header_timeout 2s;
    client_body_timeout 2s;
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off;
    }
  }
"""
ODD = {
    "lower-case-method": b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "dots": b"GET /a/../b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "encoded-dots": b"GET /a/%2e%2e/b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "encoded-slash": b"GET /a%2fb HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two-slashes": b"GET //a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "escaped-letter": b"GET /%61 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "query-only": b"GET /?a=%2F&b=/../ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "high-bytes": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "options": b"OPTIONS /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown-method": b"BREW /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "delete-with-body": b"DELETE /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    "chunked-put": b"PUT /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
}
SAME_RESOURCE = {b"/%61": b"/a", b"//a": b"/a"}
"""nginx passes a target on as it was sent; the gateway sends one spelling of the same path."""


@pytest.fixture
async def nginx(runtime: Runtime) -> AsyncIterator[tuple[Nginx, Peer]]:
    async with peer() as app:
        server = Nginx(CONFIG.replace("UPSTREAM", str(app.port)), "nginx-differential")
        await asyncio.to_thread(runtime.start, server)
        app.seen.clear()
        yield server, app
        await asyncio.to_thread(runtime.stop, server.name)


def read(seen: list[Seen]) -> list[tuple[str, bytes, bytes]]:
    """Method, target and body of each request that a service understood."""
    return [
        (one.method, SAME_RESOURCE.get(one.target.encode(), one.target.encode()), one.body)
        for one in seen
    ]


async def sent_to(port: int, app: Peer, wire: bytes) -> list[tuple[str, bytes, bytes]]:
    """What the service behind that door saw of `wire`, and nothing of its connection is left."""
    app.seen.clear()
    async with client(port) as http:
        await http.send(wire)
        await http.closed()
    return read(app.seen)


async def test_what_both_doors_pass_on_both_read_in_the_same_way(
    nginx: tuple[Nginx, Peer],
) -> None:
    """The whole table of smuggling cases, harmless oddities, and spellings of paths and methods."""
    server, behind_nginx = nginx
    cases = {**REFUSED, **HARMLESS, **ODD}
    both = 0
    async with peer() as app, running([app]) as gateway:
        for name, case in cases.items():
            wire = BEFORE + case + LAST
            ours = await sent_to(gateway.port, app, wire)
            theirs = await sent_to(server.port, behind_nginx, wire)
            middle = [one for one in ours if one[1] not in (b"/before", b"/after")]
            assert ours[:1] == [("GET", b"/before", b"")], name
            if middle:
                assert middle == theirs[1 : 1 + len(middle)] or len(theirs) <= 1, name
                both += 1
            assert app.bad_streams == 0, name
    assert both >= len(HARMLESS)
