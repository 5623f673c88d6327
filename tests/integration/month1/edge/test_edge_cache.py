"""What an edge keeps, how long, for whom; and how it is taken out again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from month1_caching_gateway.edge import EdgeCache, EdgeSettings, Servers, kept, purge
from scalelab.errors import InvalidInput
from scalelab.lab.servers import Nginx
from tests.integration.month1.edge.bed import Origin, cache_folder, origin, records, until
from tests.integration.month1.edge.conftest import StartEdge

LONG = {"Cache-Control": "public, max-age=3600"}
SHORT = {"Cache-Control": "public, max-age=1", "ETag": '"1"'}
EXPIRED = {"Cache-Control": "public, max-age=1"}


def in_front_of(one: Origin, name: str, **more: object) -> EdgeSettings:
    """An edge that serves 127.0.0.1."""
    return EdgeSettings(name, ("127.0.0.1",), Servers((f"127.0.0.1:{one.port}",)), **more)  # pyright: ignore[reportArgumentType]


async def get(
    http: aiohttp.ClientSession, edge: Nginx, path: str, **headers: str
) -> tuple[int, bytes, str]:
    """Status, body, and what the cache says of itself."""
    async with http.get(edge.url + path, headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers.get("x-edge-cache", "")


async def holds(edge: Nginx, answers: int) -> None:
    """Wait for the files: an answer is put in its place a moment after it was sent."""
    folder = cache_folder(edge)
    await until(lambda: len(list(kept(folder))) == answers, f"{answers} answers are kept")


async def get_until(http: aiohttp.ClientSession, edge: Nginx, path: str, wanted: str) -> bytes:
    """Ask until the cache gives `wanted`; the body that came with it."""
    async with asyncio.timeout(30):
        while True:
            _, body, outcome = await get(http, edge, path)
            if outcome == wanted:
                return body
            await asyncio.sleep(0.05)


async def test_a_public_answer_is_asked_for_once(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Ten requests, one at the origin; each of them is in the log with its own id."""
    async with origin() as behind:
        behind.headers = LONG
        edge = await started(in_front_of(behind, next(edge_names)))
        answers = [await get(http, edge, "/a") for _ in range(10)]
        assert [outcome for *_, outcome in answers] == ["MISS"] + ["HIT"] * 9
        assert behind.seen == ["GET /a"]

        def logged() -> list[dict[str, object]]:
            return [line for line in records(edge) if line["path"] == "/a"]

        await until(lambda: len(logged()) == 10, "all ten are in the log")
    assert [line["cache"] for line in logged()] == ["MISS"] + ["HIT"] * 9
    assert len({line["request_id"] for line in logged()}) == 10


async def test_a_crowd_on_one_cold_address_is_one_request(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """The first fills, the others wait for it."""
    async with origin() as behind:
        behind.headers, behind.gate = LONG, asyncio.Event()
        edge = await started(in_front_of(behind, next(edge_names)))
        crowd = [asyncio.create_task(get(http, edge, "/hot")) for _ in range(30)]
        await until(lambda: bool(behind.seen), "the origin was asked")
        behind.gate.set()
        answers = await asyncio.gather(*crowd)
        assert {body for _, body, _ in answers} == {b"first"}
        assert behind.seen == ["GET /hot"]


@pytest.mark.parametrize(
    "told",
    [
        {"Cache-Control": "private, max-age=60"},
        {"Cache-Control": "no-store"},
        {"Cache-Control": "no-cache"},
        {"Cache-Control": "public, max-age=60", "Set-Cookie": "session=1"},
        {"Cache-Control": "public, max-age=60", "Vary": "*"},
        {},
    ],
    ids=["private", "no-store", "no-cache", "set-cookie", "vary-star", "says-nothing"],
)
async def test_what_is_not_public_is_not_kept(
    started: StartEdge,
    http: aiohttp.ClientSession,
    edge_names: Iterator[str],
    told: dict[str, str],
) -> None:
    """Only an origin that says how long may be kept; two requests, two at the origin."""
    async with origin() as behind:
        behind.headers = told
        edge = await started(in_front_of(behind, next(edge_names)))
        await get(http, edge, "/a")
        behind.body = b"second"
        assert (await get(http, edge, "/a"))[1] == b"second"
        assert list(kept(cache_folder(edge))) == []


async def test_somebody_who_says_who_they_are_neither_reads_nor_fills_the_cache(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Even when the origin calls its answer public."""
    async with origin() as behind:
        behind.headers = LONG
        edge = await started(in_front_of(behind, next(edge_names)))
        await get(http, edge, "/a")
        behind.body = b"for one person"
        assert (await get(http, edge, "/a", Authorization="Bearer x"))[1] == b"for one person"
        assert (await get(http, edge, "/a"))[1:] == (b"first", "HIT")
        await get(http, edge, "/b", Authorization="Bearer x")
        behind.body = b"for everybody"
        assert (await get(http, edge, "/b"))[1:] == (b"for everybody", "MISS")


async def test_variants_are_kept_apart(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Vary: each language has its own answer."""
    async with origin() as behind:
        behind.headers = {**LONG, "Vary": "Accept-Language"}
        edge = await started(in_front_of(behind, next(edge_names)))
        await get(http, edge, "/a", **{"Accept-Language": "en"})
        behind.body = b"zweite"
        await get(http, edge, "/a", **{"Accept-Language": "de"})
        english = await get(http, edge, "/a", **{"Accept-Language": "en"})
        german = await get(http, edge, "/a", **{"Accept-Language": "de"})
        assert (english[1:], german[1:]) == ((b"first", "HIT"), (b"zweite", "HIT"))


async def test_a_stale_answer_is_served_while_it_is_asked_about(
    started: StartEdge, edge_names: Iterator[str]
) -> None:
    """Nobody waits for the origin: it is held, and callers get the old answer until it speaks.

    Each caller has a connection of its own: nginx lets the next request of the one that set off
    the update wait for it.
    """
    lone = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
    async with origin() as behind, lone as http:
        behind.headers = EXPIRED
        edge = await started(in_front_of(behind, next(edge_names)))
        await get(http, edge, "/a")
        behind.body, behind.gate = b"second", asyncio.Event()
        assert await get_until(http, edge, "/a", "STALE") == b"first"
        for _ in range(5):
            _, body, outcome = await get(http, edge, "/a")
            assert (body, outcome) == (b"first", "UPDATING")
        assert behind.seen == ["GET /a", "GET /a"]
        behind.headers = LONG
        behind.gate.set()


async def test_a_stale_copy_is_confirmed_without_being_sent_again(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """The edge asks with the entity tag it has, and the origin says 304."""
    async with origin() as behind:
        behind.headers = SHORT
        edge = await started(in_front_of(behind, next(edge_names)))
        await get(http, edge, "/a")
        await get_until(http, edge, "/a", "STALE")
        await until(lambda: len(behind.seen) >= 2, "the edge asked again")
        assert behind.seen_headers[1]["if-none-match"] == '"1"'


@pytest.mark.parametrize("broken", ["dead", "503"])
async def test_an_origin_in_trouble_is_covered_by_what_is_kept(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str], broken: str
) -> None:
    """Stale if error: what was kept is served; what was not is an honest 5xx."""
    async with origin() as behind:
        behind.headers = EXPIRED
        edge = await started(in_front_of(behind, next(edge_names)))
        await get(http, edge, "/a")
        behind.status, behind.headers = 503, {"Cache-Control": "no-store"}
        if broken == "503":
            assert await get_until(http, edge, "/a", "STALE") == b"first"
            assert (await get(http, edge, "/never-seen"))[0] in (502, 503)
    if broken == "dead":
        assert await get_until(http, edge, "/a", "STALE") == b"first"
        assert (await get(http, edge, "/never-seen"))[0] == 502
    status, body, _ = await get(http, edge, "/a")
    assert (status, body) == (200, b"first")


async def test_a_purge_takes_every_variant_of_one_address_and_no_other(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """After it the next request asks the origin; neighbours stay."""
    async with origin() as behind:
        behind.headers = {**LONG, "Vary": "Accept-Language"}
        edge = await started(in_front_of(behind, next(edge_names)))
        for language in ("en", "de"):
            await get(http, edge, "/p/1?x=1", **{"Accept-Language": language})
        await get(http, edge, "/p/10?x=1")
        await holds(edge, 3)
        behind.body = b"second"
        assert purge(cache_folder(edge), "/p/1?x=1") == 2
        for language in ("en", "de"):
            got = await get(http, edge, "/p/1?x=1", **{"Accept-Language": language})
            assert got[1] == b"second"
        assert (await get(http, edge, "/p/10?x=1"))[1:] == (b"first", "HIT")
        assert purge(cache_folder(edge), "/p/2") == 0


async def test_a_purge_by_prefix_takes_all_below_it(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """A catalogue changed: all its pages go, the static files stay."""
    async with origin() as behind:
        behind.headers = LONG
        edge = await started(in_front_of(behind, next(edge_names)))
        for path in ("/api/a", "/api/b?c=d", "/static/x.css"):
            await get(http, edge, path)
        await holds(edge, 3)
        assert purge(cache_folder(edge), "/api/", prefix=True) == 2
        assert [one.target for one in kept(cache_folder(edge))] == ["/static/x.css"]


async def test_a_new_generation_sees_nothing_that_was_kept_before(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Purge of all by the key: the files may stand, nobody finds them."""
    async with origin() as behind:
        behind.headers = LONG
        name = next(edge_names)
        edge = await started(in_front_of(behind, name))
        await get(http, edge, "/a")
        behind.body = b"second"
        later = await started(in_front_of(behind, f"{name}-later", cache=EdgeCache(generation=2)))
        assert (await get(http, later, "/a"))[1] == b"second"
        await holds(later, 1)
        assert "g2" in "".join(
            path.read_bytes().decode("latin-1") for path in cache_folder(later).glob("*/*/*")
        )


@pytest.mark.parametrize("target", ["", "p/1", "/a b", "/a\nKEY: g1 h /b"])
async def test_a_purge_of_something_that_is_no_address_is_refused(
    tmp_path: object, target: str
) -> None:
    """Nothing is deleted on a guess."""
    with pytest.raises(InvalidInput):
        purge(tmp_path, target)  # pyright: ignore[reportArgumentType]
