"""What a session promises of its reads, while replicas lag on purpose."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from month2_databases.replication import (
    ANY_REPLICA,
    CAUSAL,
    MONOTONIC_READS,
    PRIMARY_ONLY,
    READ_YOUR_WRITES,
    ClientSession,
    LagMetrics,
    PoolSizes,
    ReadMetrics,
    ReadPolicy,
    ReadReason,
    ReadRouted,
    ServerRole,
    SessionRouter,
    WriteInReadSession,
    bounded_staleness,
)
from scalelab.errors import InvalidInput

Wait = Callable[..., Awaitable[None]]


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def paused(notes: Any) -> Iterator[Callable[[int], None]]:
    """`paused(1)` stops the replay of replica 1; all go on after the test."""
    held: list[int] = []

    def pause(number: int) -> None:
        notes.replicated.cluster.pause_replay(number)
        held.append(number)

    yield pause
    for number in held:
        notes.replicated.cluster.resume_replay(number)


async def put(session: ClientSession, key: str, value: int) -> None:
    async with session.write() as writing:
        await writing.execute(
            "INSERT INTO note (k, v) VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
            (key, value),
        )


async def get(session: ClientSession, key: str, policy: ReadPolicy) -> tuple[int | None, Any]:
    """The value, and the session that read it."""
    read = session.read(policy)
    async with read as reading:
        row = await reading.fetch_one("SELECT v FROM note WHERE k = %s", (key,))
    return (None if row is None else row[0]), read


async def both_replicas_show(router: SessionRouter, wait_until: Wait) -> None:
    """Wait until both are caught up and polled."""

    def fresh() -> bool:
        views = router.cluster.views()
        return all(view.stale_s < 5 and router.cluster.lag_bytes(view.name) == 0 for view in views)

    await wait_until(fresh, what="both replicas caught up")


async def test_with_replay_paused_no_own_read_is_stale_and_a_naive_one_is(
    notes: Any, paused: Callable[[int], None], key: str, wait_until: Wait
) -> None:
    """Both replicas stand still: own reads come from the primary, reads without a past do not."""
    async with notes.router() as router:
        session = router.session()
        await put(session, key, 1)
        await both_replicas_show(router, wait_until)
        paused(1)
        paused(2)
        await put(session, key, 2)
        own, read = await get(session, key, READ_YOUR_WRITES)
        assert (own, read.role, read.reason) == (2, ServerRole.PRIMARY, ReadReason.BEHIND)
        naive, read = await get(router.session(), key, ANY_REPLICA)
        assert (naive, read.role) == (1, ServerRole.REPLICA)


async def test_own_reads_go_to_the_replica_that_has_caught_up(
    notes: Any, paused: Callable[[int], None], key: str, wait_until: Wait
) -> None:
    """One of two stands still: the other one answers, and the primary is spared."""
    events: list[ReadRouted] = []
    async with notes.router(events) as router:
        session = router.session()
        await put(session, key, 1)
        await both_replicas_show(router, wait_until)
        paused(1)
        await put(session, key, 2)

        async def on_a_replica() -> bool:
            value, read = await get(session, key, READ_YOUR_WRITES)
            assert value == 2
            return read.role is ServerRole.REPLICA

        await wait_until(on_a_replica, what="replica 2 answers")
        assert {e.server for e in events if e.role is ServerRole.REPLICA} == {"notes-r2"}


async def test_no_own_read_is_stale_while_replay_comes_late(
    notes: Any, key: str, count: Callable[..., int], wait_until: Wait
) -> None:
    """Commits are replayed 30 ms late on one replica: write, read, write, read, none is old."""
    rounds = count(50_000, share=0.004)
    notes.replicated.cluster.delay_replay(1, 30)
    try:
        async with notes.router() as router:
            session = router.session()
            roles: list[ServerRole] = []
            for value in range(rounds):
                await put(session, key, value)
                shown, read = await get(session, key, READ_YOUR_WRITES)
                assert shown == value, f"read {shown} after {value} from {read.server}"
                roles.append(read.role)
            await both_replicas_show(router, wait_until)
            _, read = await get(session, key, READ_YOUR_WRITES)
            assert read.role is ServerRole.REPLICA
    finally:
        notes.replicated.cluster.delay_replay(1, 0)


async def test_the_header_takes_read_your_writes_to_another_process(
    notes: Any, paused: Callable[[int], None], key: str, wait_until: Wait
) -> None:
    """A new session knows its client's writes from the header alone; a forged one costs nothing."""
    async with notes.router() as router:
        session = router.session()
        await put(session, key, 1)
        await both_replicas_show(router, wait_until)
        paused(1)
        paused(2)
        await put(session, key, 2)
        header = session.header
    async with notes.router() as router:
        again = router.session(header)
        assert (await get(again, key, READ_YOUR_WRITES))[0] == 2
        value, read = await get(router.session("v1.notes.1.1.forged"), key, READ_YOUR_WRITES)
        assert (value, read.reason) == (2, ReadReason.TOKEN_REFUSED)


async def test_an_answer_is_never_seen_without_its_question(
    notes: Any, paused: Callable[[int], None], key: str, wait_until: Wait
) -> None:
    """Ann asks, Bob reads it on the primary and answers; Cleo gets Bob's message and sees both.

    Cleo read nothing and wrote nothing; read-your-writes alone would show her neither.
    """
    question, answer = f"{key}-q", f"{key}-a"
    async with notes.router() as router:
        ann, bob, cleo = router.session(), router.session(), router.session()
        await put(ann, f"{key}-before", 0)
        await both_replicas_show(router, wait_until)
        paused(1)
        paused(2)
        await put(ann, question, 1)
        assert (await get(bob, question, PRIMARY_ONLY))[0] == 1
        await put(bob, answer, 2)
        cleo.absorb(bob.header)
        assert (await get(cleo, answer, CAUSAL))[0] == 2
        assert (await get(cleo, question, CAUSAL))[0] == 1
        assert (await get(cleo, question, READ_YOUR_WRITES))[0] is None


async def test_time_does_not_run_backwards_for_a_monotonic_reader(
    notes: Any, paused: Callable[[int], None], key: str, wait_until: Wait
) -> None:
    """Replica 1 stands still: who saw replica 2's newer value is not shown replica 1's old one."""
    async with notes.router() as router:
        writer, reader, naive = router.session(), router.session(), router.session()
        await put(writer, key, 1)
        await both_replicas_show(router, wait_until)
        paused(1)
        await put(writer, key, 2)

        async def replica_2_shows_it() -> bool:
            return (await get(reader, key, MONOTONIC_READS))[0] == 2

        await wait_until(replica_2_shows_it, what="the newer value on replica 2")
        values = [(await get(reader, key, MONOTONIC_READS))[0] for _ in range(20)]
        assert values == [2] * 20
        assert {(await get(naive, key, ANY_REPLICA))[0] for _ in range(20)} == {1, 2}


async def test_a_bound_on_staleness_moves_reads_away_from_a_late_replica(
    notes: Any, paused: Callable[[int], None], key: str, wait_until: Wait
) -> None:
    """Idle servers are fresh; one that stands still behind a commit grows older than any bound."""
    async with notes.router() as router:
        session = router.session()
        await put(session, key, 1)
        await both_replicas_show(router, wait_until)
        _, read = await get(router.session(), key, bounded_staleness(30.0))
        assert (read.role, read.reason) == (ServerRole.REPLICA, ReadReason.FRESH_ENOUGH)
        paused(1)
        paused(2)
        await put(session, key, 2)

        async def too_old() -> bool:
            value, read = await get(router.session(), key, bounded_staleness(0.3))
            return value == 2 and read.reason is ReadReason.TOO_STALE

        await wait_until(too_old, what="the primary answers instead")


async def test_a_write_in_a_read_session_is_refused_by_every_server(notes: Any, key: str) -> None:
    """On a replica and on the primary, with one code; a function that writes is a write, too."""
    async with notes.router() as router:
        session = router.session()
        await put(session, key, 1)
        for policy in (PRIMARY_ONLY, ANY_REPLICA):
            async with session.read(policy) as reading:
                for statement in (
                    "UPDATE note SET v = 9",
                    "SELECT v FROM note FOR UPDATE",
                    "CREATE TABLE x ()",
                ):
                    with pytest.raises(WriteInReadSession) as refused:
                        await reading.fetch_one(statement)
                    assert refused.value.stable_code == "write_in_read_session"
                assert isinstance(refused.value, InvalidInput)
        assert (await get(session, key, PRIMARY_ONLY))[0] == 1


async def test_a_rolled_back_write_leaves_no_past(notes: Any, key: str) -> None:
    """There is nothing to read back."""
    async with notes.router() as router:
        session = router.session()

        async def fails_after_writing() -> None:
            async with session.write() as writing:
                await writing.execute("INSERT INTO note (k, v) VALUES (%s, 1)", (key,))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fails_after_writing()
        assert session.header == ""
        assert (await get(session, key, PRIMARY_ONLY))[0] is None


async def test_reads_and_lag_are_counted(
    notes: Any, paused: Callable[[int], None], key: str, wait_until: Wait
) -> None:
    """By server and reason; lag in bytes and in seconds, for each replica."""
    registry = CollectorRegistry()
    async with notes.router() as router:
        LagMetrics(registry, router.cluster)
        counted = ReadMetrics(registry)
        session = router.session()
        await put(session, key, 1)
        await both_replicas_show(router, wait_until)
        paused(1)
        await put(session, key, 2)
        labels = {"cluster": "notes", "replica": "notes-r1"}

        def lag() -> float:
            return registry.get_sample_value("replication_lag_bytes", labels) or 0.0

        await wait_until(lambda: lag() > 0, what="bytes that replica 1 lacks")
        stale = registry.get_sample_value("replication_stale_seconds", labels)
        assert stale is not None
        assert 0 < stale < math.inf
        counted(ReadRouted("notes", "notes-r1", ServerRole.REPLICA, ReadReason.CAUGHT_UP))
        labels = {
            "cluster": "notes",
            "server": "notes-r1",
            "role": "replica",
            "reason": "caught_up",
        }
        assert registry.get_sample_value("cluster_reads_total", labels) == 1.0


async def test_pools_bound_what_a_process_opens(notes: Any, key: str) -> None:
    """Twenty readers at once, one connection a replica: the rest goes to the primary, two there."""
    pools = PoolSizes(primary_write=1, primary_read=2, replica=1, wait_s=20, replica_wait_s=0.05)
    async with notes.router(pools=pools) as router:

        async def read() -> int | None:
            return (await get(router.session(), key, ANY_REPLICA))[0]

        await put(router.session(), key, 7)
        await asyncio.gather(*(read() for _ in range(20)))
        opened = notes.replicated.cluster.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'notes'"
            " AND backend_type = 'client backend'"
        )
        assert opened <= 3  # one writes, two read
