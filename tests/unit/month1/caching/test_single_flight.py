"""Claims about asking the source once, with loads that a test opens by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from month1_caching_gateway.caching.single_flight import SingleFlight
from scalelab.errors import Overloaded, Unavailable


class HandLoader:
    """Records every load; each waits until `open` is set and then answers with `answer`."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.open = asyncio.Event()
        self._begun = asyncio.Semaphore(0)
        self.answer = "first"

    async def load(self, keys: Sequence[str]) -> dict[str, str]:
        self.calls.append(list(keys))
        self._begun.release()
        answer = self.answer
        await self.open.wait()
        return {key: f"{key}={answer}" for key in keys}

    async def begun(self) -> None:
        """Return when one more load has begun."""
        async with asyncio.timeout(60):
            await self._begun.acquire()


async def test_a_thousand_callers_cause_one_load() -> None:
    """Whoever asks while a load is under way joins it."""
    loader = HandLoader()
    async with SingleFlight(loader.load, timeout_s=5) as flights, asyncio.TaskGroup() as group:
        asking = [group.create_task(flights.get(["a"])) for _ in range(1000)]
        await loader.begun()
        loader.open.set()
    assert loader.calls == [["a"]]
    assert {task.result()["a"] for task in asking} == {"a=first"}


async def test_a_batch_loads_only_what_nobody_loads_yet() -> None:
    """Keys under way are joined, the rest go in one load."""
    loader = HandLoader()
    async with SingleFlight(loader.load, timeout_s=5) as flights, asyncio.TaskGroup() as group:
        group.create_task(flights.get(["a", "b"]))
        await loader.begun()
        second = group.create_task(flights.get(["b", "c", "d", "c"]))
        await loader.begun()
        loader.open.set()
    assert loader.calls == [["a", "b"], ["c", "d"]]
    assert second.result() == {"b": "b=first", "c": "c=first", "d": "d=first"}


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_the_others() -> None:
    """The load belongs to nobody: cancelling the first caller leaves the second served."""
    loader = HandLoader()
    async with SingleFlight(loader.load, timeout_s=5) as flights:
        first = asyncio.create_task(flights.get(["a"]))
        await loader.begun()
        second = asyncio.create_task(flights.get(["a"]))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        loader.open.set()
        assert await second == {"a": "a=first"}
    assert len(loader.calls) == 1


async def test_after_forget_nobody_joins_the_old_load() -> None:
    """A caller that comes after a write starts a load that begins after it."""
    loader = HandLoader()
    async with SingleFlight(loader.load, timeout_s=5) as flights, asyncio.TaskGroup() as group:
        old = group.create_task(flights.get(["a"]))
        await loader.begun()
        loader.answer = "second"
        flights.forget("a")
        new = group.create_task(flights.get(["a"]))
        await loader.begun()
        loader.open.set()
    assert (old.result()["a"], new.result()["a"]) == ("a=first", "a=second")


async def test_a_failed_load_fails_its_callers_and_is_not_remembered() -> None:
    """The next caller asks the source again."""
    calls = 0

    async def load(keys: Sequence[str]) -> dict[str, str]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Unavailable("the source is away")
        return dict.fromkeys(keys, "here")

    async with SingleFlight(load, timeout_s=5) as flights:
        answers = await asyncio.gather(
            flights.get(["a"]), flights.get(["a"]), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
        assert await flights.get(["a"]) == {"a": "here"}


async def test_a_load_that_never_answers_is_cut_off() -> None:
    """A silent source becomes Unavailable with a code of its own."""
    loader = HandLoader()
    async with SingleFlight(loader.load, timeout_s=0.01) as flights:
        with pytest.raises(Unavailable) as caught:
            await flights.get(["a"])
    assert caught.value.stable_code == "load_timeout"


async def test_loads_under_way_are_bounded() -> None:
    """One more than the limit is refused at once and leaves no trace."""
    loader = HandLoader()
    async with SingleFlight(loader.load, timeout_s=5, limit=1) as flights:
        first = asyncio.create_task(flights.get(["a"]))
        await loader.begun()
        with pytest.raises(Overloaded):
            await flights.get(["b"])
        loader.open.set()
        assert await first == {"a": "a=first"}
        assert await flights.get(["b"]) == {"b": "b=first"}


async def test_closing_ends_every_load_and_tells_who_waits() -> None:
    """No task outlives its owner; a waiter gets an error it can map, not a cancellation."""
    loader = HandLoader()
    async with SingleFlight(loader.load, timeout_s=5) as flights:
        waiting = asyncio.create_task(flights.get(["a"]))
        await loader.begun()
    with pytest.raises(Unavailable):
        await waiting
    assert flights.under_way == 0
