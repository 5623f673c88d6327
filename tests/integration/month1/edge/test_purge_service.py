"""One call takes an answer out of both edges; strangers and mistakes take out nothing."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from month1_caching_gateway.edge import EdgeSettings, Servers, create_purge_app, kept
from scalelab.lab.servers import Nginx
from scalelab.telemetry import TelemetrySettings, build_telemetry
from tests.integration.month1.edge.bed import Origin, cache_folder, origin, until
from tests.integration.month1.edge.conftest import StartEdge

GOOD = {"Authorization": "Bearer right"}


@pytest.fixture
async def behind() -> AsyncIterator[Origin]:
    """An origin whose answers may be kept for an hour."""
    async with origin() as one:
        one.headers = {"Cache-Control": "public, max-age=3600"}
        yield one


@pytest.fixture
async def edges(
    started: StartEdge, behind: Origin, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> list[Nginx]:
    """Two edges that both keep /p/1 and /p/2."""
    made: list[Nginx] = []
    for _ in range(2):
        servers = Servers((f"127.0.0.1:{behind.port}",))
        made.append(await started(EdgeSettings(next(edge_names), ("127.0.0.1",), servers)))
        for path in ("/p/1", "/p/2"):
            async with http.get(made[-1].url + path) as answer:
                await answer.read()
    for edge in made:  # an answer is put in its place a moment after it was sent
        folder = cache_folder(edge)
        await until(lambda folder=folder: len(list(kept(folder))) == 2, "both answers are kept")
    return made


def service(caches: dict[str, Path]) -> httpx.AsyncClient:
    """The purge, called in process."""
    telemetry = build_telemetry(TelemetrySettings("purge"), stream=io.StringIO())
    app = create_purge_app(caches, "right", telemetry=telemetry)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://purge.test")


async def test_one_call_empties_both_edges(
    edges: list[Nginx], behind: Origin, http: aiohttp.ClientSession
) -> None:
    """After it both ask the origin, and the neighbour is still kept."""
    async with service({edge.name: cache_folder(edge) for edge in edges}) as client:
        answer = await client.post("/purge", json={"target": "/p/1"}, headers=GOOD)
        assert answer.json() == {"removed": {edge.name: 1 for edge in edges}}
        again = await client.post("/purge", json={"target": "/p/1"}, headers=GOOD)
        assert again.json() == {"removed": {edge.name: 0 for edge in edges}}
    behind.body = b"second"
    for edge in edges:
        async with http.get(edge.url + "/p/1") as answer:
            assert await answer.read() == b"second"
        async with http.get(edge.url + "/p/2") as answer:
            assert await answer.read() == b"first"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"target": "/p/1"}, {}, 401),
        ({"target": "/p/1"}, {"Authorization": "Bearer wrong"}, 401),
        ({"target": "p/1"}, GOOD, 422),
        ({"target": "/p/1\n"}, GOOD, 422),
        ({"target": "/", "everything": True}, GOOD, 422),
    ],
    ids=["no-token", "wrong-token", "no-path", "line-end", "unknown-field"],
)
async def test_who_may_not_and_what_is_wrong_purges_nothing(
    edges: list[Nginx], body: dict[str, object], headers: dict[str, str], status: int
) -> None:
    """A problem document, and both caches as they were."""
    async with service({edge.name: cache_folder(edge) for edge in edges}) as client:
        answer = await client.post("/purge", json=body, headers=headers)
    assert answer.status_code == status or (status, answer.status_code) == (422, 400)
    assert answer.headers["content-type"] == "application/problem+json"
    assert [len(list(kept(cache_folder(edge)))) for edge in edges] == [2, 2]
