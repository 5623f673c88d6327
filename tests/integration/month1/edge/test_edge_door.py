"""The edge as a door: TLS, names it serves, what it tells the origin, who gets the request."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from month1_caching_gateway.edge import Authority, EdgeSettings, Servers, Tls
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx, ServerFailed
from tests.integration.month1.edge.bed import Origin, origin, records, trusting, until
from tests.integration.month1.edge.conftest import StartEdge

HOSTS = ("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority of its own."""
    return Authority.open(tmp_path_factory.mktemp("authority"), now=dt.datetime.now(dt.UTC))


def with_tls(runtime: Runtime, authority: Authority, name: str, behind: Origin) -> EdgeSettings:
    """An edge that speaks TLS, and sends the plain port there."""
    issued = authority.issue(HOSTS, now=dt.datetime.now(dt.UTC))
    tls = Tls(runtime.port(f"tls-{name}", 8443), issued.certificate, issued.key)
    return EdgeSettings(
        name, HOSTS, Servers((f"127.0.0.1:{behind.port}",)), tls, plain_http="redirect"
    )


async def test_tls_is_served_to_whoever_trusts_the_authority(
    runtime: Runtime,
    authority: Authority,
    started: StartEdge,
    http: aiohttp.ClientSession,
    edge_names: Iterator[str],
) -> None:
    """By name and by address; the plain port leads there; nobody else's trust is enough."""
    async with origin() as behind:
        settings = with_tls(runtime, authority, next(edge_names), behind)
        edge = await started(settings)
        assert settings.tls is not None
        trust, untrusting = trusting(authority.certificate), ssl.create_default_context()
        for host in HOSTS:
            url = f"https://{host}:{settings.tls.port}/a?b=c"
            async with http.get(url, ssl=trust) as answer:
                assert answer.status == 200
                assert answer.headers["strict-transport-security"].startswith("max-age=")
        async with http.get(f"{edge.url}/a?b=c", allow_redirects=False) as answer:
            assert answer.status == 308
            assert answer.headers["location"] == f"https://127.0.0.1:{settings.tls.port}/a?b=c"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(f"https://127.0.0.1:{settings.tls.port}/", ssl=untrusting)
        assert behind.seen == ["GET /a?b=c"] * 2
        assert behind.seen_headers[0]["x-forwarded-proto"] == "https"


@pytest.mark.parametrize("version", ["TLSv1_1", "TLSv1_2", "TLSv1_3"])
async def test_only_tls_1_2_and_later_is_spoken(
    runtime: Runtime,
    authority: Authority,
    started: StartEdge,
    edge_names: Iterator[str],
    version: str,
) -> None:
    """A client that offers 1.1 at most gets no handshake; 1.2 and 1.3 do."""
    async with origin() as behind:
        settings = with_tls(runtime, authority, next(edge_names), behind)
        await started(settings)
        assert settings.tls is not None
        answer = await asyncio.to_thread(
            handshake, settings.tls.port, authority.certificate, ssl.TLSVersion[version]
        )
        assert answer == ("refused" if version == "TLSv1_1" else version.replace("_", "."))


def handshake(port: int, certificate: str, version: ssl.TLSVersion) -> str | None:
    """The version agreed on with a client that speaks only `version`, or `refused`."""
    context = trusting(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is why we ask
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                return secured.version()
        except (ssl.SSLError, ConnectionError):
            return "refused"


async def test_a_name_that_is_not_served_is_421(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Whatever an attacker's name resolves to, the origin does not hear of it."""
    async with origin() as behind:
        edge = await started(
            EdgeSettings(next(edge_names), HOSTS, Servers((f"127.0.0.1:{behind.port}",)))
        )
        for name in ("evil.example", "localhost.evil.example", "10.0.0.1"):
            async with http.get(f"{edge.url}/a", headers={"Host": name}) as answer:
                assert answer.status == 421
        assert behind.seen == []


async def test_the_origin_hears_who_asks_from_the_edge_alone(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Claims of the client about itself are lost; one id goes through all logs."""
    claims = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Request-ID": "mine",
        "traceparent": f"00-{'1' * 32}-{'1' * 16}-01",
        "Forwarded": "for=6.6.6.6",
    }
    async with origin() as behind:
        edge = await started(
            EdgeSettings(next(edge_names), HOSTS, Servers((f"127.0.0.1:{behind.port}",)))
        )
        async with http.get(f"{edge.url}/a", headers=claims) as answer:
            told = answer.headers["x-edge-request-id"]
        (heard,) = behind.seen_headers
        assert heard["x-forwarded-for"] == "127.0.0.1"
        assert heard["x-forwarded-proto"] == "http"
        assert heard["x-request-id"] == told
        assert heard["traceparent"].split("-")[1] == told
        assert "forwarded" not in heard
        await until(
            lambda: told in {line["request_id"] for line in records(edge)},
            "the request is logged under the id the origin heard",
        )


@pytest.mark.parametrize("balance", ["round_robin", "least_conn", "consistent_hash"])
async def test_requests_are_spread_as_the_balance_says(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str], balance: str
) -> None:
    """Twelve addresses, each asked for twice, over three processes."""
    async with AsyncExitStack() as stack:
        behind = [await stack.enter_async_context(origin()) for _ in range(3)]
        servers = Servers(
            tuple(f"127.0.0.1:{one.port}" for one in behind),
            balance=balance,  # pyright: ignore[reportArgumentType]
        )
        edge = await started(EdgeSettings(next(edge_names), HOSTS, servers))
        for _ in range(2):
            for number in range(12):
                async with http.get(f"{edge.url}/{number}") as answer:
                    assert answer.status == 200
        loads = [len(one.seen) for one in behind]
        assert sum(loads) == 24
        if balance == "consistent_hash":
            assert all(one.seen.count(target) == 2 for one in behind for target in set(one.seen))
        else:
            assert loads == [8, 8, 8]


async def test_a_dead_process_costs_no_request(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Nobody listens at one of three addresses: the others answer for it."""
    async with origin() as one, origin() as two:
        async with origin() as gone:
            dead = gone.port
        addresses = (f"127.0.0.1:{one.port}", f"127.0.0.1:{dead}", f"127.0.0.1:{two.port}")
        edge = await started(EdgeSettings(next(edge_names), HOSTS, Servers(addresses)))
        for number in range(20):
            async with http.get(f"{edge.url}/{number}") as answer:
                assert answer.status == 200
        assert len(one.seen) + len(two.seen) == 20


async def test_a_post_is_never_sent_twice(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """A process that answers 503 to an order may have taken it."""
    async with origin() as one, origin() as two:
        one.status = two.status = 503
        addresses = (f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}")
        edge = await started(EdgeSettings(next(edge_names), HOSTS, Servers(addresses)))
        async with http.post(f"{edge.url}/orders", data=b"x") as answer:
            assert answer.status == 503
        assert len(one.seen) + len(two.seen) == 1


async def test_a_body_over_the_limit_is_413_before_the_origin_hears(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """One mebibyte passes, a byte more does not."""
    async with origin() as behind:
        edge = await started(
            EdgeSettings(next(edge_names), HOSTS, Servers((f"127.0.0.1:{behind.port}",)))
        )
        async with http.post(f"{edge.url}/a", data=io.BytesIO(b"x" * 1024 * 1024)) as answer:
            assert answer.status == 200
        assert await status_of_declared(edge, 1024 * 1024 + 1) == b"413"
        assert len(behind.seen) == 1


async def status_of_declared(edge: Nginx, size_bytes: int) -> bytes:
    """The status for a POST that says how large it is and sends nothing of it.

    A client in the midst of its body may be cut off before it reads the refusal; this one has
    only the refusal to wait for.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % size_bytes)
    async with asyncio.timeout(30):
        line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line.split()[1]


async def test_a_certificate_that_does_not_fit_its_key_is_named_at_the_start(
    runtime: Runtime, authority: Authority, started: StartEdge, edge_names: Iterator[str]
) -> None:
    """nginx's own words reach the person; nothing is started."""
    now = dt.datetime.now(dt.UTC)
    one, other = authority.issue(HOSTS, now=now), authority.issue(HOSTS, now=now)
    name = next(edge_names)
    tls = Tls(runtime.port(f"tls-{name}", 8443), one.certificate, other.key)
    with pytest.raises(ServerFailed, match="key values mismatch"):
        await started(EdgeSettings(name, HOSTS, Servers(("127.0.0.1:9",)), tls))


def test_the_authority_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    """A second start trusts and signs with the same one; its file is for its owner alone."""
    now = dt.datetime.now(dt.UTC)
    first = Authority.open(tmp_path / "ca", now=now)
    assert Authority.open(tmp_path / "ca", now=now).certificate == first.certificate
    assert (tmp_path / "ca" / "authority.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca" / "authority.crt").read_text() == first.certificate
