"""Claims about the catalogue without Redis or without its database, and about its seed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg
import pytest

from month1_caching_gateway.catalog import DatabaseSettings, Sessions, draw, migrate, seed
from scalelab.errors import Unavailable
from tests.integration.month1.catalog.conftest import Shelf, open_shelf

if TYPE_CHECKING:
    from scalelab.lab.servers import Postgres


@pytest.fixture
def nobodys_port() -> Iterator[int]:
    """A port on which connections are refused as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def test_without_redis_every_read_is_a_bypass_and_works(
    stocked_dsn: str, nobodys_port: int
) -> None:
    """The cache is an optimisation: without it the service answers and is ready."""
    async with open_shelf(stocked_dsn, f"redis://127.0.0.1:{nobodys_port}/0") as shelf:
        answers = [await shelf.client.get("/api/v1/products/p-0001") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-cache"] for answer in answers} == {"bypass"}
        assert (await shelf.client.get("/health/ready")).status_code == 200
        metrics = (await shelf.client.get("/metrics")).text
        assert 'cache_lookups_total{cache="product",outcome="bypass"} 3.0' in metrics
        body = answers[0].json() | {"unit_minor": 55}
        draft = {name: body[name] for name in body if name not in ("product_id", "version")}
        put = await shelf.client.put(
            "/api/v1/products/p-0001", json=draft, headers=shelf.bearer("admin")
        )
        assert put.status_code == 200
        assert (await shelf.client.get("/api/v1/products/p-0001")).json()["unit_minor"] == 55


async def test_without_the_database_cached_products_are_served_and_the_rest_is_503(
    shelf: Shelf, nobodys_port: int
) -> None:
    """A second instance whose database is away still has the shared cache."""
    assert (await shelf.client.get("/api/v1/products/p-0001")).headers["x-cache"] == "miss"
    dsn = f"postgresql://nobody@127.0.0.1:{nobodys_port}/none"
    async with open_shelf(dsn, shelf.redis_url) as cut_off:
        cached = await cut_off.client.get("/api/v1/products/p-0001")
        assert (cached.status_code, cached.headers["x-cache"]) == (200, "hit")
        for path in ("/api/v1/products/p-0002", "/api/v1/products"):
            answer = await cut_off.client.get(path)
            assert answer.status_code == 503
            assert answer.json()["code"] == "database_unavailable"
            assert int(answer.headers["retry-after"]) >= 1
        assert (await cut_off.client.get("/health/ready")).status_code == 503


async def test_connections_cut_by_the_server_are_replaced(
    shelf: Shelf, postgres_server: Postgres
) -> None:
    """A restart of the database costs at most the requests that were under way."""
    await shelf.client.get("/api/v1/products")
    with psycopg.connect(postgres_server.superuser_dsn(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'catalog'"
        )
    assert (await shelf.client.get("/api/v1/products")).status_code == 200


async def test_a_block_that_outlasts_its_time_is_unavailable(stocked_dsn: str) -> None:
    """The whole session has a deadline, whatever waits inside it."""
    settings = DatabaseSettings(stocked_dsn, block_timeout_s=0.2)
    async with Sessions(settings) as sessions:
        with pytest.raises(Unavailable):
            async with sessions.reading():
                await asyncio.Event().wait()


async def test_a_failed_block_leaves_nothing_behind(stocked_dsn: str) -> None:
    """An error between the statements and the end rolls all back."""
    async with Sessions(DatabaseSettings(stocked_dsn)) as sessions:
        with pytest.raises(Stop):
            await _seed_and_stop(sessions)
        async with sessions.writing() as session:
            assert await seed(session, 30, 1) == 5


class Stop(Exception):
    """What ends a block early."""


async def _seed_and_stop(sessions: Sessions) -> None:
    async with sessions.writing() as session:
        assert await seed(session, 30, 1) == 5
        raise Stop


async def test_seeding_twice_adds_only_what_is_new(database_dsn: str) -> None:
    """Repeatable, in one statement beyond the protocol's limit of parameters."""
    await asyncio.to_thread(migrate, database_dsn)
    await asyncio.to_thread(migrate, database_dsn)
    async with Sessions(DatabaseSettings(database_dsn)) as sessions:
        async with sessions.writing() as session:
            assert await seed(session, 12_000, 3) == 12_000
        async with sessions.writing() as session:
            assert await seed(session, 12_001, 3) == 1
    with psycopg.connect(database_dsn) as connection:
        row = connection.execute(
            "SELECT name, unit_minor FROM product WHERE product_id = 'p-12000'"
        ).fetchone()
    last = dict(draw(12_000, 3))["p-12000"]
    assert row == (last.name, last.unit_minor)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE product SET unit_minor = 0",
        "UPDATE product SET currency = 'eur'",
        "UPDATE product SET version = 0",
        "UPDATE product SET product_id = 'Not An Id'",
    ],
)
async def test_the_schema_refuses_what_no_product_may_be(stocked_dsn: str, statement: str) -> None:
    """The rules hold for writers that are not this program."""
    with (
        psycopg.connect(stocked_dsn) as connection,
        pytest.raises(psycopg.errors.CheckViolation),
    ):
        connection.execute(statement.encode())
