"""What holds for every hub, on PostgreSQL alone or over Redis, and what Redis adds: many nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import pytest
import redis.asyncio as redis_asyncio

from month3_messaging.orders import Status
from month3_messaging.status import (
    Hub,
    HubSettings,
    RedisFeed,
    RedisHub,
    RelaySettings,
    StatusHub,
    StatusRelay,
    Watcher,
)
from scalelab.clients.redis import connect
from scalelab.errors import RateLimited
from tests.integration.month3.messaging_bed import DEADLINE_S, poll_until
from tests.integration.month3.orders_bed import Shop, quiet_telemetry
from tests.integration.month3.status.live_bed import follow, live_on, said, versions_until_end
from tests.integration.month3.status.moves import captured, placed, reserved

LOG = quiet_telemetry("status").log
SETTINGS = HubSettings(per_user=2, reconnect_s=0.05)
CALM_S = 3600.0
Opened = Callable[[], AbstractAsyncContextManager[Hub]]


@asynccontextmanager
async def client_of(url: str) -> AsyncGenerator[redis_asyncio.Redis]:
    client = connect(url, timeout_s=30.0, connect_timeout_s=30.0)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def relay_on(
    shop: Shop, url: str, channel: str, *, beat_s: float = CALM_S
) -> AsyncGenerator[StatusRelay]:
    settings = RelaySettings(channel=channel, beat_s=beat_s, retry_s=0.05)
    async with (
        client_of(url) as client,
        StatusRelay([shop.database], client, log=LOG, settings=settings) as relay,
    ):
        await relay.ready()
        yield relay


@asynccontextmanager
async def node_on(url: str, channel: str, *, silence_s: float = CALM_S) -> AsyncGenerator[RedisHub]:
    async with (
        client_of(url) as client,
        RedisHub(client, log=LOG, settings=SETTINGS, feed=RedisFeed(channel, silence_s)) as hub,
    ):
        async with asyncio.timeout(DEADLINE_S):
            await hub.ready()
        yield hub


@pytest.fixture(params=["postgres", "redis"])
async def hub(
    request: pytest.FixtureRequest, shop: Shop, redis_url: str, topic_prefix: str
) -> AsyncGenerator[Hub]:
    if request.param == "postgres":
        async with StatusHub([shop.database], log=LOG, settings=SETTINGS) as opened:
            await opened.ready()
            yield opened
        return
    async with relay_on(shop, redis_url, topic_prefix), node_on(redis_url, topic_prefix) as opened:
        yield opened


async def heard(watcher: Watcher, version: int) -> None:
    """Until the watcher hears of the version, or is told to look."""
    async with asyncio.timeout(DEADLINE_S):
        while (hint := await watcher.next()) is not None:
            if hint.version == version:
                return


async def test_a_watcher_hears_of_its_order(shop: Shop, hub: Hub) -> None:
    """After the commit, and only of its own."""
    order_id, other = await placed(shop), await placed(shop, "key-2")
    async with hub.watch("ann", UUID(order_id)) as watcher:
        await captured(shop, other)
        await captured(shop, order_id)
        async with asyncio.timeout(DEADLINE_S):
            hint = await watcher.next()
            while hint is None:  # told to look: it began to listen just now
                hint = await watcher.next()
        assert (hint.version, hint.status) == (2, Status.PAID)


async def test_a_hub_bounds_its_watchers(hub: Hub) -> None:
    """Per user, and gives the place back."""
    order_id = UUID(int=1)
    async with hub.watch("ann", order_id), hub.watch("ann", order_id):
        with pytest.raises(RateLimited):
            async with hub.watch("ann", order_id):
                pass
    assert (hub.followers.admitted, hub.followers.orders) == (0, 0)


async def test_every_node_tells_its_own_clients(
    shop: Shop, redis_url: str, topic_prefix: str
) -> None:
    """One relay, three nodes, a client on each; two relays are heard once."""
    order_id = await placed(shop)
    async with (
        relay_on(shop, redis_url, topic_prefix),
        relay_on(shop, redis_url, topic_prefix),
        node_on(redis_url, topic_prefix) as one,
        node_on(redis_url, topic_prefix) as two,
        node_on(redis_url, topic_prefix) as three,
        live_on(shop, hub=one) as first,
        live_on(shop, hub=two) as second,
        live_on(shop, hub=three) as third,
        first.client() as ann,
        second.client() as bea,
        third.client() as cid,
    ):
        clients = (ann, bea, cid)
        for client in clients:
            await follow(client, order_id)
            assert (await said(client))["version"] == 1
        await captured(shop, order_id)
        assert [(await said(client))["version"] for client in clients] == [2, 2, 2]
        await reserved(shop, order_id)
        ends = [await versions_until_end(client) for client in clients]
        assert all(end == sorted(set(end)) and end[-1] == 4 for end in ends)


async def test_a_lost_subscription_misses_nothing(
    shop: Shop, redis_url: str, topic_prefix: str
) -> None:
    """Redis cuts the node off while the order moves: the history fills in."""
    order_id = await placed(shop)
    async with (
        client_of(redis_url) as client,
        relay_on(shop, redis_url, topic_prefix),
        node_on(redis_url, topic_prefix) as hub,
        live_on(shop, hub=hub) as live,
        live.client() as watcher,
    ):
        await follow(watcher, order_id)
        assert (await said(watcher))["version"] == 1
        await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await captured(shop, order_id)
        await reserved(shop, order_id)
        assert (await versions_until_end(watcher))[-1] == 4


async def test_a_dead_relay_costs_delay_and_no_update(
    shop: Shop, redis_url: str, topic_prefix: str
) -> None:
    """Nobody publishes; the silence sends the followers to the history."""
    order_id = await placed(shop)
    async with (
        node_on(redis_url, topic_prefix, silence_s=0.2) as hub,
        live_on(shop, hub=hub) as live,
        live.client() as watcher,
    ):
        await follow(watcher, order_id)
        assert (await said(watcher))["version"] == 1
        await captured(shop, order_id)
        await reserved(shop, order_id)
        assert (await versions_until_end(watcher))[-1] == 4


async def test_a_notification_that_no_order_wrote_changes_nothing(
    shop: Shop, redis_url: str, topic_prefix: str
) -> None:
    """Neither kills the listener, in PostgreSQL nor in Redis."""
    order_id = await placed(shop)
    async with (
        client_of(redis_url) as client,
        relay_on(shop, redis_url, topic_prefix),
        node_on(redis_url, topic_prefix) as hub,
        hub.watch("ann", UUID(order_id)) as watcher,
    ):
        await client.publish(topic_prefix, b"\xff rubbish")  # pyright: ignore[reportUnknownMemberType]
        async with shop.database.transaction() as conn:
            await conn.execute("SELECT pg_notify('order_status', 'one two three four')")
        await captured(shop, order_id)

        async def arrived() -> bool:
            hint = await watcher.next()
            return hint is not None and hint.version == 2

        await poll_until(arrived, "the update behind the rubbish")
