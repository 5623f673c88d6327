"""The bounded pool: threads that wait are few, and everybody learns what became of their call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from month3_messaging.concurrency import BlockingPool
from scalelab.errors import DeadlineExceeded, InvalidInput, OutcomeUnknown, Overloaded, Unavailable

LONG_S = 30.0
SOON_S = 0.05


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a stuck call waits for; opened at the end whatever a test did."""
    opened = threading.Event()
    yield opened
    opened.set()


def stuck(pool: BlockingPool, gate: threading.Event) -> threading.Event:
    """Begin a call that waits for the gate, and return once it has begun; set when it ends."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(LONG_S)
        ended.set()

    pool.submit(work)
    assert begun.wait(LONG_S)
    return ended


def test_never_more_calls_than_threads_and_places(gate: threading.Event) -> None:
    """I1: two threads and three places take five calls; the sixth is refused at once."""
    with BlockingPool("p", threads=2, waiting=3) as pool:
        taken = [pool.submit(lambda: gate.wait(LONG_S)) for _ in range(5)]
        with pytest.raises(Overloaded) as refused:
            pool.submit(lambda: None)
        assert refused.value.stable_code == "pool_full"
        assert pool.counts().refused == 1
        gate.set()
        assert [future.result(LONG_S) for future in taken] == [True] * 5


def test_a_pool_without_places_serves_one_after_the_other() -> None:
    """Whoever has an answer finds the thread free: its place is given back before."""
    with BlockingPool("p", threads=1, waiting=0) as pool:
        assert [pool.call(lambda n=n: n, timeout_s=LONG_S) for n in range(200)] == list(range(200))


def test_a_call_without_a_thread_is_taken_back(gate: threading.Event) -> None:
    """I2: nothing happened, and nothing will."""
    happened: list[int] = []
    with BlockingPool("p", threads=1, waiting=1) as pool:
        ended = stuck(pool, gate)
        with pytest.raises(DeadlineExceeded):
            pool.call(lambda: happened.append(1), timeout_s=SOON_S)
        gate.set()
        assert ended.wait(LONG_S)
        pool.call(lambda: None, timeout_s=LONG_S)
        assert (happened, pool.counts().taken_back) == ([], 1)


def test_the_outcome_of_a_begun_call_is_unknown(gate: threading.Event) -> None:
    """It goes on and has its effect, though its caller has left."""
    happened = threading.Event()

    def work() -> None:
        gate.wait(LONG_S)
        happened.set()

    with BlockingPool("p", threads=1, waiting=0) as pool:
        begun = threading.Event()

        def told() -> None:
            begun.set()
            work()

        given_up = False
        while not given_up:
            try:
                pool.call(told, timeout_s=0.5)
            except DeadlineExceeded:  # a busy machine had not begun it yet
                continue
            except OutcomeUnknown:
                given_up = True
        assert begun.is_set()
        assert pool.counts().abandoned == 1
        assert pool.counts().running == 1
        gate.set()
        assert happened.wait(LONG_S)


def test_what_the_call_raises_is_raised_to_its_caller() -> None:
    """A time-out of its own too: it is no time-out of the pool."""

    def fails() -> None:
        raise TimeoutError("the socket's")

    with BlockingPool("p", threads=1, waiting=0) as pool:
        with pytest.raises(TimeoutError, match="the socket's"):
            pool.call(fails, timeout_s=LONG_S)
        assert pool.counts().abandoned == 0


def test_closing_drops_who_waits_and_finishes_who_runs(gate: threading.Event) -> None:
    """I3; and a closed pool takes nothing more."""
    pool = BlockingPool("p", threads=1, waiting=1)
    with pool:
        ended = stuck(pool, gate)
        waits = pool.submit(lambda: None)
        closing = threading.Thread(target=pool.close)
        closing.start()
        with pytest.raises(Unavailable) as dropped:
            waits.result(LONG_S)
        assert dropped.value.stable_code == "pool_closed"
        assert not ended.is_set()
        gate.set()
        closing.join(LONG_S)
        assert ended.is_set()
        with pytest.raises(Unavailable):
            pool.submit(lambda: None)


def test_a_pool_each_keeps_the_other_dependency_served(gate: threading.Event) -> None:
    """The bulkhead: all threads of one are stuck, the other answers."""
    with (
        BlockingPool("slow", threads=2, waiting=0) as slow,
        BlockingPool("quick", threads=2, waiting=0) as quick,
    ):
        stuck(slow, gate)
        stuck(slow, gate)
        with pytest.raises(Overloaded):
            slow.submit(lambda: None)
        assert quick.call(lambda: "here", timeout_s=LONG_S) == "here"
        gate.set()


@pytest.mark.parametrize(("threads", "waiting"), [(0, 1), (1, -1)])
def test_a_pool_of_nothing_is_refused(threads: int, waiting: int) -> None:
    """At its making, not at its first call."""
    with pytest.raises(InvalidInput):
        BlockingPool("p", threads=threads, waiting=waiting)


@pytest.mark.anyio
async def test_the_loop_goes_on_while_a_call_blocks(gate: threading.Event) -> None:
    """The call ends only because another task of the same loop opens its gate."""
    with BlockingPool("p", threads=1, waiting=0) as pool:

        async def open_it() -> None:
            gate.set()

        answered, _ = await asyncio.gather(
            pool.call_from_loop(lambda: gate.wait(LONG_S), timeout_s=LONG_S), open_it()
        )
        assert answered is True


@pytest.mark.anyio
async def test_a_cancelled_caller_takes_its_call_back(gate: threading.Event) -> None:
    """As one whose time is up."""
    happened: list[int] = []
    with BlockingPool("p", threads=1, waiting=1) as pool:
        stuck(pool, gate)
        caller = asyncio.create_task(
            pool.call_from_loop(lambda: happened.append(1), timeout_s=LONG_S)
        )
        while pool.counts().waiting == 0:  # noqa: ASYNC110 -- the pool is asked, it does not tell
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert pool.counts().taken_back == 1
        gate.set()
    assert happened == []


@pytest.mark.anyio
async def test_the_loop_is_told_that_the_outcome_is_unknown(gate: threading.Event) -> None:
    """And may end before the call does."""
    with BlockingPool("p", threads=1, waiting=0) as pool:
        ended = stuck(pool, gate)
        with pytest.raises(Overloaded):
            await pool.call_from_loop(lambda: None, timeout_s=SOON_S)
        gate.set()
        assert await asyncio.to_thread(ended.wait, LONG_S)
