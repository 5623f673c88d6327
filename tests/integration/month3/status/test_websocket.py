"""Order status by WebSocket: complete, resumable, authenticated, bounded."""

from __future__ import annotations

import asyncio
import json

import pytest
import websockets
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode
from websockets.typing import Subprotocol

from month3_messaging.status import SUBPROTOCOL, SocketSettings
from tests.integration.month3.messaging_bed import DEADLINE_S, poll_until
from tests.integration.month3.orders_bed import Shop
from tests.integration.month3.status.live_bed import (
    CALM,
    close_code,
    follow,
    live_on,
    said,
    versions_until_end,
)
from tests.integration.month3.status.moves import captured, placed, reserved


async def test_a_client_follows_an_order_to_its_end(shop: Shop) -> None:
    """What was, what happens, and the end; nothing of another order."""
    order_id, other = await placed(shop), await placed(shop, "key-2")
    async with live_on(shop) as live, live.client() as client:
        await follow(client, order_id)
        first = await said(client)
        assert (first["status"], first["version"], first["order_id"]) == ("pending", 1, order_id)
        await captured(shop, other)
        await captured(shop, order_id)
        assert (await said(client))["status"] == "paid"
        await reserved(shop, order_id)
        # Two statuses of one transaction: the latest may stand for both.
        assert (await versions_until_end(client))[-1] == 4
        assert live.sockets.followers.orders == 0


async def test_a_client_resumes_with_what_it_missed(shop: Shop) -> None:
    """Every version after the one it names, on whichever listener; then the end."""
    order_id = await placed(shop)
    async with live_on(shop) as live, live.client() as client:
        await follow(client, order_id)
        assert (await said(client))["version"] == 1
    await captured(shop, order_id)
    await reserved(shop, order_id)
    async with live_on(shop) as live, live.client() as client:
        await follow(client, order_id, after=1)
        assert await versions_until_end(client) == [2, 3, 4]
        await follow(client, order_id, after=4)
        assert await versions_until_end(client) == []


async def test_one_connection_follows_many_orders(shop: Shop) -> None:
    """Each from its own version; unfollowed ones are silent."""
    orders = [await placed(shop, f"key-{number}") for number in range(3)]
    async with live_on(shop) as live, live.client() as client:
        for order_id in orders:
            await follow(client, order_id)
        assert {(await said(client))["order_id"] for _ in orders} == set(orders)
        await client.send(json.dumps({"type": "unfollow", "order_id": orders[0]}))
        await follow(client, orders[1], after=1)  # answered by nothing, after the unfollow
        await poll_until(lambda: _is(live.sockets.followers.orders == 2), "one is unfollowed")
        for order_id in orders:
            await captured(shop, order_id)
        assert {(await said(client))["order_id"] for _ in orders[1:]} == set(orders[1:])


async def _is(holds: bool) -> bool:
    return holds


async def test_another_users_order_is_unknown(shop: Shop) -> None:
    """Like one that does not exist; the connection goes on."""
    order_id = await placed(shop, user="bob")
    async with live_on(shop) as live, live.client("ann") as client:
        await follow(client, order_id)
        refused = await said(client)
        assert (refused["type"], refused["code"]) == ("refused", "unknown_order")
        await client.send("nonsense")
        assert (await said(client))["code"] == "malformed_json"
        assert live.sockets.followers.orders == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer forged"}, 401), ({"Origin": "https://evil.test"}, 403)],
)
async def test_nobody_connects_without_a_token_or_from_a_foreign_page(
    shop: Shop, headers: dict[str, str], status: int
) -> None:
    """Refused with a problem document before anything is a WebSocket."""
    async with live_on(shop) as live:
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(live.url, additional_headers=headers)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"{}")["status"] == status


async def test_a_browser_brings_its_token_as_a_subprotocol(shop: Shop) -> None:
    """It cannot set headers; the token is not echoed."""
    token = shop.headers("ann")["Authorization"].removeprefix("Bearer ")
    offered = [Subprotocol(SUBPROTOCOL), Subprotocol(f"bearer.{token}")]
    async with live_on(shop) as live, websockets.connect(live.url, subprotocols=offered) as client:
        assert client.subprotocol == SUBPROTOCOL


async def test_connections_per_user_are_bounded_and_given_back(shop: Shop) -> None:
    """Streams of all kinds together; 429 for the one too many."""
    async with live_on(shop) as live:
        async with live.client(), live.client(), live.client(), live.client("bob"):
            with pytest.raises(InvalidStatus) as refused:
                async with live.client():
                    pass
            assert refused.value.response.status_code == 429
        await poll_until(lambda: _is(shop.hub.watching == 0), "all are forgotten")
        async with live.client():
            pass


async def test_orders_per_connection_are_bounded(shop: Shop) -> None:
    """The one too many is refused; the others are still followed."""
    first, second = await placed(shop), await placed(shop, "key-2")
    async with (
        live_on(shop, settings=SocketSettings(sweep_s=3600.0, orders_max=1)) as live,
        live.client() as client,
    ):
        await follow(client, first)
        assert (await said(client))["version"] == 1
        await follow(client, second)
        assert (await said(client))["code"] == "too_many_orders"
        await captured(shop, first)
        assert (await said(client))["version"] == 2


async def test_a_lost_listener_misses_nothing(shop: Shop) -> None:
    """The hub's connection is terminated and the order moves meanwhile: the history fills in."""
    order_id = await placed(shop)
    async with live_on(shop) as live, live.client() as client:
        await follow(client, order_id)
        assert (await said(client))["version"] == 1
        await shop.hub.ready()
        async with shop.database.transaction() as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query ILIKE 'LISTEN%' AND datname = current_database()"
            )
        await captured(shop, order_id)
        await reserved(shop, order_id)
        assert (await versions_until_end(client))[-1] == 4


async def test_a_stop_says_goodbye(shop: Shop) -> None:
    """1001: come back elsewhere, with the last version you have."""
    async with live_on(shop) as live, live.client() as client:
        closing = asyncio.create_task(live.sockets.say_goodbye())
        assert await close_code(client) == (1001, "the server stops")
        await closing


async def test_a_protocol_violation_ends_the_connection(shop: Shop) -> None:
    """With the code that the RFC has for it."""
    async with live_on(shop, settings=CALM) as live, live.client() as client:
        await client.send(b"binary")
        assert (await close_code(client))[0] == 1003
    async with live_on(shop, settings=CALM) as live, live.client() as client:
        await client.send("x" * 2000)
        assert (await close_code(client))[0] == 1009
    async with live_on(shop, settings=CALM) as live, live.client() as client:
        async with client.send_context():
            client.protocol.send_frame(_continuation())
        assert (await close_code(client))[0] == 1002


def _continuation() -> websockets.frames.Frame:
    return websockets.frames.Frame(Opcode.CONT, b"of nothing")


async def test_a_ping_is_answered(shop: Shop) -> None:
    """By the same bytes, or the client's library would give up."""
    async with live_on(shop) as live, live.client() as client:
        async with asyncio.timeout(DEADLINE_S):
            await (await client.ping(b"there?"))
