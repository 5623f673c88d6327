"""Memcached from this machine, and the client's promises while it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from scalelab.clients.memcached import Memcached as Client
from scalelab.clients.memcached_replies import Item
from scalelab.errors import OutcomeUnknown, Unavailable
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Memcached

SET = b"set a 0 60 1\r\nx\r\n"


@pytest.fixture
async def own(own_runtime: Runtime) -> AsyncIterator[tuple[Runtime, Client]]:
    """A server of this test alone and a client with a short deadline."""
    server = Memcached()
    own_runtime.start(server)
    client = Client(*server.address, timeout_s=0.3, connect_timeout_s=5.0)
    yield own_runtime, client
    await client.aclose()


async def test_it_comes_back_empty(own: tuple[Runtime, Client]) -> None:
    """Killed and started again it answers on the same port, and holds nothing."""
    runtime, client = own
    assert await client.call([SET]) == [b"STORED"]
    (found,) = await client.call([b"gets a\r\n"], read_only=True)
    assert isinstance(found, dict)
    assert isinstance(found[b"a"], Item)
    runtime.kill("memcached")
    with pytest.raises((Unavailable, OutcomeUnknown)):
        await client.call([b"gets a\r\n"])
    runtime.restart("memcached")
    assert await client.call([b"gets a\r\n"], read_only=True) == [{}]


async def test_a_late_answer_is_nobodys(own: tuple[Runtime, Client]) -> None:
    """Frozen, it answers after the deadline; the next caller is not given that answer."""
    runtime, client = own
    await client.call([SET])
    runtime.pause("memcached")
    try:
        with pytest.raises(OutcomeUnknown):
            await client.call([b"set b 0 60 1\r\ny\r\n"])
        with pytest.raises(Unavailable):
            await client.call([b"gets a\r\n"], read_only=True)
    finally:
        runtime.resume("memcached")
    async with asyncio.timeout(30):
        while True:
            try:
                assert (await client.call([b"gets nobody\r\n"], read_only=True)) == [{}]
                return
            except Unavailable:
                await asyncio.sleep(0.01)


async def test_a_caller_that_gives_up_does_not_shift_the_answers(
    own: tuple[Runtime, Client],
) -> None:
    """Its answer is read and dropped; everybody else gets their own."""
    _, client = own
    await client.call([SET])
    for _ in range(50):
        given_up = asyncio.create_task(client.call([b"gets a\r\n"], read_only=True))
        await asyncio.sleep(0)
        given_up.cancel()
        others = await asyncio.gather(
            client.call([b"gets nobody\r\n"], read_only=True), client.call([b"delete nobody\r\n"])
        )
        assert others == [[{}], [b"NOT_FOUND"]]


async def test_an_error_of_one_command_is_its_own(own: tuple[Runtime, Client]) -> None:
    """The commands beside it are answered."""
    _, client = own
    replies = await client.call([SET, b"nonsense\r\n", b"gets nobody\r\n"])
    assert replies == [b"STORED", b"ERROR", {}]


def test_the_client_works_on_uvloop_as_well(own_runtime: Runtime) -> None:
    """The services run on it; its transports are no subclass of asyncio's."""
    server = Memcached()
    own_runtime.start(server)

    async def ask() -> list[object]:
        client = Client(*server.address, timeout_s=10.0)
        replies = await client.call([SET])
        await client.aclose()
        return list(replies)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) == [b"STORED"]
