"""Claims about looking a service up by its name, asked of a real Consul."""

from __future__ import annotations

import asyncio
import uuid
from random import Random

import pytest

from month5_kvstore.discovery import Endpoint, Instance, lookup_srv, open_registry
from scalelab.clock import SystemClock
from scalelab.lab.servers import Consul
from tests.contracts.month5.keepers import BUILT_WITHIN_S

pytestmark = [pytest.mark.bed, pytest.mark.timeout(BUILT_WITHIN_S)]
RANDOM = Random(5)


async def test_a_name_leads_to_whoever_is_healthy_and_to_nobody_else(consul_server: Consul) -> None:
    service = f"s{uuid.uuid4().hex[:12]}"

    async def named() -> set[Endpoint]:
        number = RANDOM.getrandbits(16)
        return set(await lookup_srv(consul_server.dns, service, number=number, timeout_s=10.0))

    async def becomes(*wanted: Endpoint) -> None:
        async with asyncio.timeout(60.0):
            while True:
                if await named() == set(wanted):
                    return
                await asyncio.sleep(0.05)

    address = f"consul://127.0.0.1:{consul_server.port}"
    async with open_registry(address, clock=SystemClock(), random=Random(1)) as registry:
        await becomes()
        a = Instance(service, "a", "127.0.0.1", 9001, "1")
        b = Instance(service, "b", "127.0.0.1", 9002, "1")
        first = await registry.register(a, ttl_s=120.0)
        second = await registry.register(b, ttl_s=120.0)
        await becomes(Endpoint("127.0.0.1", 9001), Endpoint("127.0.0.1", 9002))
        await first.withdraw()
        await becomes(Endpoint("127.0.0.1", 9002))
        await second.withdraw()
