"""Claims about sending what is asked in one turn of the event loop as one request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from scalelab.clients.tick_batches import TickBatches
from scalelab.errors import Unavailable


class Server:
    """Doubles numbers; waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [2 * number for number in numbers]


async def test_questions_of_one_turn_go_out_together() -> None:
    """A hundred callers, one request, each its own answer."""
    server = Server()
    server.open.set()
    batches = TickBatches(server.send, what="a server")
    assert await asyncio.gather(*(batches.ask(n) for n in range(100))) == list(range(0, 200, 2))
    assert server.batches == [list(range(100))]


async def test_batches_are_bounded_and_the_rest_follows() -> None:
    """No more than `max_batches` requests at once, none larger than `max_batch`."""
    server = Server()
    batches = TickBatches(server.send, what="a server", max_batch=2, max_batches=2)
    answers = [batches.ask(n) for n in range(7)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.batches == [[0, 1], [2, 3]]
    server.open.set()
    assert await asyncio.gather(*answers) == [0, 2, 4, 6, 8, 10, 12]
    assert server.batches == [[0, 1], [2, 3], [4, 5], [6]]


async def test_too_many_waiting_are_refused_at_once() -> None:
    """The queue has a bound; those in it are answered."""
    server = Server()
    batches = TickBatches(server.send, what="a server", max_pending=2)
    waiting = [batches.ask(1), batches.ask(2)]
    with pytest.raises(Unavailable):
        batches.ask(3)
    server.open.set()
    assert await asyncio.gather(*waiting) == [2, 4]


async def test_an_error_is_everybodys_and_the_next_batch_is_fresh() -> None:
    """One failed request fails its own questions only."""
    server = Server()
    server.open.set()
    server.error = Unavailable("away")
    batches = TickBatches(server.send, what="a server")
    failed = await asyncio.gather(batches.ask(1), batches.ask(2), return_exceptions=True)
    assert failed == [server.error] * 2
    server.error = None
    assert await batches.ask(3) == 6


async def test_a_caller_that_gives_up_leaves_the_others_answered() -> None:
    """Its place in the batch stays; its answer is dropped."""
    server = Server()
    batches = TickBatches(server.send, what="a server")
    first, second = batches.ask(1), batches.ask(2)
    await asyncio.sleep(0)
    first.cancel()
    server.open.set()
    assert await second == 4


async def test_closing_fails_what_was_not_sent() -> None:
    """Nobody waits for ever."""
    server = Server()
    batches = TickBatches(server.send, what="a server")
    waiting = batches.ask(1)
    await batches.aclose()
    with pytest.raises(Unavailable):
        await waiting


async def _after_lone_ones(server: Server) -> TickBatches[int, int]:
    """Batches that have seen a row of questions that travelled alone."""
    batches = TickBatches(server.send, what="a server")
    server.open.set()
    for number in range(20):
        assert await batches.answer(number) == 2 * number
    server.open.clear()
    server.batches.clear()
    return batches


async def test_who_was_alone_for_a_while_sends_at_once() -> None:
    """No turn of the loop is waited for, and the first one who comes beside it shares again."""
    server = Server()
    batches = await _after_lone_ones(server)
    first = batches.answer(1)
    first.send(None)
    assert server.batches == [[1]]
    second, third = batches.ask(2), batches.ask(3)
    server.open.set()
    assert await asyncio.gather(second, third) == [4, 6]
    assert server.batches == [[1], [2, 3]]
    first.close()
    server.batches.clear()
    assert await asyncio.gather(*(batches.answer(n) for n in range(3))) == [0, 2, 4]
    assert server.batches == [[0, 1, 2]]


async def test_the_bound_counts_what_was_sent_at_once() -> None:
    """With one request allowed, the next waits for the one that went alone, and then goes."""
    server = Server()
    batches = await _after_lone_ones(server)
    batches._max_batches = 1  # pyright: ignore[reportPrivateUsage]
    alone = asyncio.create_task(batches.answer(1))
    await asyncio.sleep(0)
    waiting = batches.ask(2)
    for _ in range(3):
        await asyncio.sleep(0)
    assert server.batches == [[1]]
    server.open.set()
    assert (await alone, await waiting) == (2, 4)


async def test_an_error_of_what_was_sent_at_once_is_its_callers() -> None:
    """And the next question is fresh."""
    server = Server()
    batches = await _after_lone_ones(server)
    server.open.set()
    server.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await batches.answer(1)
    server.error = None
    assert await batches.answer(2) == 4


async def test_closing_waits_for_what_was_sent_at_once() -> None:
    """Its caller gets its answer first."""
    server = Server()
    batches = await _after_lone_ones(server)
    alone = asyncio.create_task(batches.answer(1))
    await asyncio.sleep(0)
    closing = asyncio.create_task(batches.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    server.open.set()
    await closing
    assert await alone == 2
