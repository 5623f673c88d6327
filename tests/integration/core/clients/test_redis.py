"""The Redis client: deadlines, no hidden retries, honest errors."""

from __future__ import annotations

import asyncio

import pytest

from scalelab.clients.redis import connect, map_errors
from scalelab.errors import OutcomeUnknown, Overloaded, ScalelabError, Unavailable


async def test_values_come_back_as_bytes(redis_url: str) -> None:
    """Decoding is the caller's choice."""
    async with connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0) as client:
        with map_errors():
            await client.set("k", "v")
            assert await client.get("k") == b"v"


async def test_a_refused_connection_is_unavailable() -> None:
    """Nothing was sent, so nothing was done."""
    async with connect("redis://127.0.0.1:1/0") as client:
        with pytest.raises(Unavailable), map_errors():
            await client.set("k", "v")


@pytest.mark.parametrize(("read_only", "expected"), [(True, Unavailable), (False, OutcomeUnknown)])
async def test_silence_after_a_command_is_unknown_unless_it_only_reads(
    read_only: bool, expected: type[ScalelabError]
) -> None:
    """A server that greets and then says nothing; each command is sent once."""
    commands: list[bytes] = []

    async def greet_and_fall_silent(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(4096):
            if b"HELLO" in data:
                writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
            elif b"CLIENT" in data:
                writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
            else:
                commands.append(data)
        writer.close()

    server = await asyncio.start_server(greet_and_fall_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect(f"redis://127.0.0.1:{port}/0", timeout_s=0.1) as client:
        with pytest.raises(expected), map_errors(read_only=read_only):
            await client.set("k", "v")
    assert len(commands) == 1


async def test_more_callers_than_connections_are_refused(redis_url: str) -> None:
    """The pool does not grow without bound."""
    async with connect(
        redis_url, max_connections=1, timeout_s=10.0, connect_timeout_s=30.0
    ) as client:

        async def wait_for_an_item() -> object:
            with map_errors():
                return await client.blpop(["nothing"], timeout=0.1)  # pyright: ignore[reportGeneralTypeIssues] (sync and async share one stub)

        results = await asyncio.gather(
            wait_for_an_item(), wait_for_an_item(), return_exceptions=True
        )
    assert sum(isinstance(result, Overloaded) for result in results) == 1


async def test_a_wrong_command_is_an_error_that_is_not_retried(redis_url: str) -> None:
    """Redis answered: no."""
    async with connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0) as client:
        await client.set("k", "text")
        with pytest.raises(ScalelabError) as refusal, map_errors():
            await client.incr("k")
    assert refusal.value.stable_code == "redis_error"
    assert not refusal.value.retryable
