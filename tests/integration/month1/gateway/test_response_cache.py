"""The response cache at the gateway: what is asked of the service, and what callers get."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass, field

import pytest

from month1_caching_gateway.gateway import GatewaySettings, Route
from month1_caching_gateway.ratelimit import Policy
from month1_caching_gateway.response_cache import CachePolicy
from scalelab.clock import ManualClock
from tests.integration.month1.gateway.harness import (
    Got,
    RawClient,
    Seen,
    client,
    peer,
    plain,
    until,
)
from tests.integration.month1.gateway.harness import running as _running

METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
ROUTE = Route("app", prefix="/", auth="none", methods=METHODS, cache=CachePolicy())


@dataclass
class Service:
    """Answers with a serial number; `extra` are its headers. `gate` holds answers back."""

    extra: list[tuple[str, str]] = field(default_factory=lambda: [("Cache-Control", "max-age=60")])
    status: int = 200
    gate: asyncio.Event | None = None
    waiting: int = 0
    serial: int = 0

    async def __call__(
        self, seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        self.serial += 1
        body = f"answer {self.serial}".encode()
        if self.gate is not None:
            self.waiting += 1
            await self.gate.wait()
        tag = dict(self.extra).get("ETag")
        if tag is not None and seen.header("if-none-match") == tag:
            lines = "".join(f"{name}: {value}\r\n" for name, value in self.extra)
            writer.write(f"HTTP/1.1 304 Not Modified\r\n{lines}\r\n".encode())
        else:
            writer.write(plain(self.status, body if seen.method != "HEAD" else b"", *self.extra))
        await writer.drain()
        return True


# A clock that stands still must not let a deadline pass, and a sweep is needed for none.
SETTINGS = GatewaySettings(sweep_s=0.01, log_flush_s=0.01, idle_timeout_s=1e9, head_timeout_s=1e9)


def running(app: object, route: Route = ROUTE, clock: ManualClock | None = None, **more: object):
    return _running([app], [route], settings=SETTINGS, clock=clock or ManualClock(), **more)  # type: ignore[arg-type, list-item]


def how(got: Got) -> str:
    return got.headers["cache-status"]


async def test_the_second_request_is_a_hit() -> None:
    """The same bytes, the service's headers, an Age, and one request at the service."""
    service, clock = Service([("Cache-Control", "max-age=60"), ("X-Kept", "yes")]), ManualClock()
    async with (
        peer(service) as app,
        running(app, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        first = await http.ask("GET", "/p?a=1")
        clock.advance(7)
        second = await http.ask("GET", "/p?a=1")
        assert (first.body, second.body) == (b"answer 1", b"answer 1")
        assert how(first).startswith("gateway; fwd=uri-miss; stored")
        assert how(second) == "gateway; hit; ttl=53"
        assert (second.headers["age"], second.headers["x-kept"]) == ("7", "yes")
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert len(app.seen) == 1


async def test_head_is_answered_from_a_stored_get() -> None:
    """And a HEAD that misses fetches with GET: its answer serves both."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        head = await http.ask("HEAD", "/p")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "8")
        assert (await http.ask("GET", "/p")).body == b"answer 1"
        assert (await http.ask("HEAD", "/p")).headers["content-length"] == "8"
        assert [one.method for one in app.seen] == ["GET"]


async def test_what_has_become_stale_is_validated_by_its_tag() -> None:
    """304 from the service refreshes the stored answer; the body travels once."""
    service = Service([("Cache-Control", "max-age=5"), ("ETag", '"v1"')])
    clock = ManualClock()
    async with (
        peer(service) as app,
        running(app, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/p")
        clock.advance(6)
        again = await http.ask("GET", "/p")
        assert (again.status, again.body) == (200, b"answer 1")
        assert "fwd=stale; fwd-status=304" in how(again)
        assert "hit" in how(await http.ask("GET", "/p"))
        assert [one.header("if-none-match") for one in app.seen] == [None, '"v1"']


async def test_a_client_that_has_it_gets_304_from_the_cache() -> None:
    """Its condition never reaches the service."""
    service = Service([("Cache-Control", "max-age=60"), ("ETag", '"v1"'), ("Content-Type", "a/b")])
    async with peer(service) as app, running(app) as gateway, client(gateway.port) as http:
        first = await http.ask("GET", "/p", If_None_Match='"v1"')
        assert (first.status, first.body) == (304, b"")
        second = await http.ask("GET", "/p", If_None_Match='W/"v0", W/"v1"')
        assert (second.status, second.headers["etag"]) == (304, '"v1"')
        assert "content-type" not in second.headers
        assert (await http.ask("GET", "/p", If_None_Match='"v0"')).status == 200
        assert [one.header("if-none-match") for one in app.seen] == [None]


async def test_a_range_is_answered_with_the_whole() -> None:
    """Partial answers are never stored, so none is asked for."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        assert (await http.ask("GET", "/p", Range="bytes=0-1")).body == b"answer 1"
        assert app.seen[0].header("range") is None


@pytest.mark.parametrize(
    "extra",
    [
        [("Cache-Control", "no-store, max-age=60")],
        [("Cache-Control", "private, max-age=60")],
        [("Cache-Control", 'private="x", max-age=60')],
        [("Cache-Control", "max-age=60"), ("Set-Cookie", "a=1")],
        [("Cache-Control", "max-age=60"), ("Vary", "*")],
        [("Cache-Control", "max-age=60"), ("Vary", "Cookie")],
        [("Cache-Control", "max-age=0")],
        [("Cache-Control", "max-age=60"), ("Age", "60")],
        [("Cache-Control", "max-age=x")],
        [("Expires", "0")],
        [],
    ],
    ids=str,
)
async def test_what_may_not_be_kept_is_asked_for_each_time(extra: list[tuple[str, str]]) -> None:
    """T1, T2, T3 through the gateway."""
    async with peer(Service(extra)) as app, running(app) as gateway, client(gateway.port) as http:
        bodies = [(await http.ask("GET", "/p")).body for _ in range(3)]
        assert bodies == [b"answer 1", b"answer 2", b"answer 3"]
        assert len(app.seen) == 3


@pytest.mark.parametrize("credential", ["Authorization", "Cookie", "X-API-Key"])
async def test_a_request_with_credentials_passes_by_both_ways(credential: str) -> None:
    """Not stored even if the answer says public, and not answered from what is stored."""
    service = Service([("Cache-Control", "public, max-age=60")])
    async with peer(service) as app, running(app) as gateway, client(gateway.port) as http:
        mine = await http.ask("GET", "/p", None, **{credential: "me"})
        assert (mine.body, how(mine)) == (b"answer 1", "gateway; fwd=bypass")
        assert (await http.ask("GET", "/p")).body == b"answer 2"
        assert (await http.ask("GET", "/p", None, **{credential: "me"})).body == b"answer 3"
        assert (await http.ask("GET", "/p")).body == b"answer 2"
        assert len(app.seen) == 3


async def test_each_variant_is_an_answer_of_its_own() -> None:
    """`Vary: Accept-Language`: two languages are two fetches; case does not count."""
    service = Service([("Cache-Control", "max-age=60"), ("Vary", "Accept-Language")])
    async with peer(service) as app, running(app) as gateway, client(gateway.port) as http:
        bodies = [
            (await http.ask("GET", "/p", Accept_Language=language)).body
            for language in ("de", "en", "de", "EN", "de")
        ]
        assert bodies == [f"answer {n}".encode() for n in (1, 2, 1, 2, 1)]
        assert len(app.seen) == 2


async def test_many_who_miss_at_once_are_one_fetch() -> None:
    """Thirty clients wait for one answer."""
    service = Service(gate=asyncio.Event())
    async with peer(service) as app, running(app) as gateway:
        clients = [
            RawClient(*await asyncio.open_connection("127.0.0.1", gateway.port)) for _ in range(30)
        ]
        asked = [asyncio.ensure_future(one.ask("GET", "/p")) for one in clients]
        await until(lambda: service.waiting == 1)
        await until(lambda: gateway.gateway.connections == 30)
        service.gate.set()  # type: ignore[union-attr]
        answers = await asyncio.gather(*asked)
        assert {one.body for one in answers} == {b"answer 1"}
        assert len(app.seen) == 1
        for one in clients:
            one.close()


async def test_the_first_of_many_may_leave() -> None:
    """The others still get the answer of the one fetch."""
    service = Service(gate=asyncio.Event())
    async with peer(service) as app, running(app) as gateway, client(gateway.port) as patient:
        async with client(gateway.port) as hasty:
            await hasty.send(b"GET /p HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: service.waiting == 1)
            asked = asyncio.ensure_future(patient.ask("GET", "/p"))
            await until(lambda: gateway.gateway.connections == 2)
        await until(lambda: gateway.gateway.connections == 1)
        service.gate.set()  # type: ignore[union-attr]
        assert (await asked).body == b"answer 1"
        assert len(app.seen) == 1


async def test_what_cannot_be_shared_is_not_given_to_two() -> None:
    """H2: many wait, the answer sets a cookie: each one gets an answer of its own."""
    service = Service(
        [("Cache-Control", "max-age=60"), ("Set-Cookie", "a=1")], gate=asyncio.Event()
    )
    async with peer(service) as app, running(app) as gateway:
        clients = [
            RawClient(*await asyncio.open_connection("127.0.0.1", gateway.port)) for _ in range(5)
        ]
        asked = [asyncio.ensure_future(one.ask("GET", "/p")) for one in clients]
        await until(lambda: service.waiting == 1)
        await until(lambda: gateway.gateway.connections == 5)
        service.gate.set()  # type: ignore[union-attr]
        answers = await asyncio.gather(*asked)
        assert sorted(one.body for one in answers) == [f"answer {n}".encode() for n in range(1, 6)]
        assert len(app.seen) == 5
        for one in clients:
            one.close()


async def test_stale_while_revalidate_answers_at_once_and_fetches_behind() -> None:
    """The old answer now, the new one next time."""
    service = Service([("Cache-Control", "max-age=5, stale-while-revalidate=60")])
    clock = ManualClock()
    async with (
        peer(service) as app,
        running(app, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/p")
        clock.advance(6)
        service.gate = asyncio.Event()
        for _ in range(3):
            assert (await http.ask("GET", "/p")).body == b"answer 1"
        await until(lambda: service.waiting == 1)
        service.gate.set()
        async with asyncio.timeout(20):
            while (await http.ask("GET", "/p")).body != b"answer 2":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(app.seen) == 2


@pytest.mark.parametrize("failure", ["status", "death"])
async def test_stale_if_error_stands_in_for_a_failing_service(failure: str) -> None:
    """A 503 or a dead service; after the window the failure shows."""
    service = Service([("Cache-Control", "max-age=5, stale-if-error=60")])
    clock = ManualClock()
    async with (
        peer(service) as app,
        running(app, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/p")
        clock.advance(6)
        if failure == "status":
            service.status = 503
        else:
            await app.die()
        got = await http.ask("GET", "/p")
        assert (got.status, got.body) == (200, b"answer 1")
        assert "fwd=stale" in how(got)
        clock.advance(60)
        assert (await http.ask("GET", "/p")).status in (502, 503)


async def test_must_revalidate_is_never_served_stale() -> None:
    """F3: the failure shows instead."""
    service = Service([("Cache-Control", "max-age=5, must-revalidate"), ("ETag", '"1"')])
    policy = CachePolicy(stale_if_error_s=60, stale_while_revalidate_s=60)
    route, clock = dataclasses.replace(ROUTE, cache=policy), ManualClock()
    async with (
        peer(service) as app,
        running(app, route, clock) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/p")
        clock.advance(6)
        await app.die()
        assert (await http.ask("GET", "/p")).status in (502, 503)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_an_unsafe_request_forgets_its_target(method: str) -> None:
    """All its queries; other targets stay."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        for target in ("/p", "/p?a=1", "/other"):
            await http.ask("GET", target)
        await http.ask(method, "/p", b"")
        assert (await http.ask("GET", "/p")).body == b"answer 5"
        assert (await http.ask("GET", "/p?a=1")).body == b"answer 6"
        assert (await http.ask("GET", "/other")).body == b"answer 3"
        assert len(app.seen) == 6


async def test_a_remembered_hit_ends_with_the_change_the_second_and_the_freshness() -> None:
    """Three times the same bytes: new after a PUT, older by the second, asked anew when stale."""
    service, clock = Service(), ManualClock()
    async with (
        peer(service) as app,
        running(app, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        first = [(await http.ask("GET", "/p")).body for _ in range(3)]
        await http.ask("PUT", "/p", b"")
        changed = [(await http.ask("GET", "/p")).body for _ in range(3)]
        clock.advance(2.5)
        aged = [(await http.ask("GET", "/p")).headers["age"] for _ in range(2)]
        clock.advance(60)
        stale = [(await http.ask("GET", "/p")).body for _ in range(2)]
        assert first == [b"answer 1"] * 3
        assert changed == [b"answer 3"] * 3
        assert aged == ["2", "2"]
        assert stale == [b"answer 4"] * 2
        assert len(app.seen) == 4


async def test_a_remembered_hit_is_accounted_for_as_any_request() -> None:
    """Each has an id of its own, a line in the log, and its place in the counts."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        ids = [(await http.ask("GET", "/p")).headers["x-request-id"] for _ in range(4)]
        await until(lambda: len(gateway.records()) == 4)
        logged = [(one["request_id"], one["status"], one["bytes_out"]) for one in gateway.records()]
        assert logged == [(one, 200, len(b"answer 1")) for one in ids]
        assert len(set(ids)) == 4
        assert gateway.metric("gateway_requests_total", route="/*", method="GET", status="200") == 4
        assert len(app.seen) == 1


async def test_a_remembered_hit_of_head_has_no_body_and_pipelined_ones_keep_their_order() -> None:
    """The next answer on the connection begins where this one ends."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        for _ in range(2):
            await http.ask("GET", "/p")
            await http.ask("HEAD", "/p")
        lines = "GET /p HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await http.send((lines.replace("GET", "HEAD") + lines + lines).encode())
        bare = await http.answer(to="HEAD")
        assert (bare.headers["content-length"], bare.body) == ("8", b"")
        assert [(await http.answer()).body for _ in range(2)] == [b"answer 1"] * 2
        assert len(app.seen) == 1


async def test_a_remembered_hit_ends_with_the_rules_it_was_found_under() -> None:
    """After a reload without a cache the service is asked; after one with a limit it counts."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        for _ in range(3):
            await http.ask("GET", "/p")
        rules = gateway.gateway.rules
        gateway.gateway.apply(
            dataclasses.replace(rules, routes=(dataclasses.replace(ROUTE, cache=None),))
        )
        assert (await http.ask("GET", "/p")).body == b"answer 2"
        limited = dataclasses.replace(ROUTE, rate="few")
        gateway.gateway.apply(
            dataclasses.replace(rules, routes=(limited,), rates={"few": Policy(2, 0.001)})
        )
        statuses = [(await http.ask("GET", "/p")).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert len(app.seen) in (2, 3)


async def test_a_refused_change_forgets_nothing() -> None:
    """A stranger's 4xx must not empty the cache."""
    service = Service()
    async with peer(service) as app, running(app) as gateway, client(gateway.port) as http:
        await http.ask("GET", "/p")
        service.status = 403
        await http.ask("DELETE", "/p", b"")
        assert (await http.ask("GET", "/p")).body == b"answer 1"
        assert len(app.seen) == 2


async def test_a_read_that_began_before_a_change_is_not_kept() -> None:
    """The old value comes late: it is given to whoever asked, and to nobody after."""
    service = Service(gate=asyncio.Event())
    async with (
        peer(service) as app,
        running(app) as gateway,
        client(gateway.port) as reader,
        client(gateway.port) as writer,
    ):
        slow = asyncio.ensure_future(reader.ask("GET", "/p"))
        await until(lambda: service.waiting == 1)
        gate, service.gate = service.gate, None
        await writer.ask("PUT", "/p", b"")
        gate.set()  # type: ignore[union-attr]
        assert (await slow).body == b"answer 1"
        assert (await writer.ask("GET", "/p")).body == b"answer 3"
        assert len(app.seen) == 3


async def test_a_clients_directives_do_not_push_load_through() -> None:
    """no-cache of a stranger is ignored; no-store and only-if-cached are obeyed."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        refused = await http.ask("GET", "/p", Cache_Control="only-if-cached")
        assert (refused.status, refused.code) == (504, "not_cached")
        await http.ask("GET", "/p")
        for said in ("no-cache", "max-age=0", "only-if-cached"):
            assert (await http.ask("GET", "/p", Cache_Control=said)).body == b"answer 1"
        assert (await http.ask("GET", "/p", Cache_Control="no-store")).body == b"answer 2"
        assert len(app.seen) == 2


async def test_what_is_too_large_streams_through() -> None:
    """The first caller gets all of it, and nothing is kept."""
    big = b"x" * 300_000

    async def answer(_s: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 X\r\ncache-control: max-age=60\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(big), big))
        await writer.drain()
        return True

    route = dataclasses.replace(ROUTE, cache=CachePolicy(max_entry_bytes=100_000))
    async with peer(answer) as app, running(app, route) as gateway, client(gateway.port) as http:
        for _ in range(2):
            assert (await http.ask("GET", "/p")).body == big
        head = await http.ask("HEAD", "/p")
        assert (head.status, head.body) == (200, b"")
        assert len(app.seen) == 3


async def test_an_answer_that_breaks_off_is_not_kept_and_not_taken_for_whole() -> None:
    """The caller sees a failure, the next one asks again."""
    broken = [True]

    async def answer(_s: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        whole = plain(200, b"whole body", ("Cache-Control", "max-age=60"))
        writer.write(whole[:-3] if broken.pop() else whole)
        broken.append(False)
        await writer.drain()
        return broken == [False] and len(broken) > 1

    async with peer(answer) as app, running(app) as gateway, client(gateway.port) as http:
        got = await http.ask("GET", "/p")
        assert got.status == 502
        broken[:] = [False]
        assert (await http.ask("GET", "/p")).body == b"whole body"
        assert len(app.seen) == 2


async def test_the_count_by_kind_is_a_metric() -> None:
    """Hits and misses can be watched."""
    async with peer(Service()) as app, running(app) as gateway, client(gateway.port) as http:
        for _ in range(3):
            await http.ask("GET", "/p")
        assert gateway.metric("gateway_response_cache", kind="hit") == 2
        assert gateway.metric("gateway_response_cache", kind="miss") == 1
        assert len(app.seen) == 1
