"""SQLAlchemy on the router's policies: Selects on replicas, writes nowhere but the primary."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from month2_databases.replication import (
    ANY_REPLICA,
    CAUSAL,
    PRIMARY_ONLY,
    READ_YOUR_WRITES,
    SessionRouter,
    WriteInReadSession,
)
from month2_databases.replication.sqlalchemy_sessions import SqlReading, SqlSessions
from scalelab.errors import Conflict

Wait = Callable[..., Awaitable[None]]


class Base(DeclarativeBase):
    """The models of these tests."""


class Note(Base):
    """The bed's table."""

    __tablename__ = "note"
    k: Mapped[str] = mapped_column(primary_key=True)
    v: Mapped[int]
    filler: Mapped[str] = mapped_column(default="")


@pytest.fixture
async def opened(notes: Any) -> AsyncIterator[tuple[SessionRouter, SqlSessions]]:
    settings = notes.replicated.settings
    async with notes.router() as router, SqlSessions(router, settings) as sessions:
        yield router, sessions


Opened = tuple[SessionRouter, SqlSessions]


async def test_what_was_added_is_read_back_from_a_server_that_has_it(
    notes: Any, opened: Opened, wait_until: Wait
) -> None:
    """Replay stands still: the primary; replay goes on: a replica. Never nothing."""
    router, sessions = opened
    client, key = router.session(), uuid.uuid4().hex
    cluster = notes.replicated.cluster
    cluster.pause_replay(1)
    cluster.pause_replay(2)
    try:
        async with sessions.write(client) as session:
            session.add(Note(k=key, v=5))
        async with sessions.read(client, READ_YOUR_WRITES) as reading:
            assert await reading.scalars(select(Note.v).where(Note.k == key)) == [5]
            assert reading.server == "notes"
    finally:
        cluster.resume_replay(1)
        cluster.resume_replay(2)

    async def from_a_replica() -> bool:
        async with sessions.read(client, READ_YOUR_WRITES) as reading:
            found = await reading.get(Note, key)
            assert found is not None
            assert found.v == 5
            return reading.server != "notes"

    await wait_until(from_a_replica, what="a replica that has it")


async def test_a_causal_read_leaves_a_past(opened: Opened) -> None:
    """Whoever gets its header cannot be shown anything older."""
    router, sessions = opened
    client = router.session()
    async with sessions.read(client, CAUSAL) as reading:
        await reading.rows(select(Note.k, Note.v).limit(1))
    assert client.past.seen is not None
    assert client.past.written is None


WRITES = {
    "insert": insert(Note).values(k="x", v=1),
    "update": update(Note).values(v=9),
    "text": text("UPDATE note SET v = 9"),
    "row locks": select(Note).with_for_update(),
    "a writing CTE": select(
        insert(Note).values(k="cte", v=1, filler="").returning(Note.k).cte().c.k
    ),
    "a function": select(func.pg_advisory_xact_lock(1), func.nextval("planted")),
}


@pytest.mark.parametrize("policy", [PRIMARY_ONLY, ANY_REPLICA], ids=["primary", "replica"])
@pytest.mark.parametrize("what", list(WRITES))
async def test_a_write_in_a_read_session_is_refused(
    notes: Any, opened: Opened, wait_until: Wait, policy: Any, what: str
) -> None:
    """Before it is sent where its kind shows, else by the server; one code for both."""
    router, sessions = opened
    notes.replicated.cluster.execute("CREATE SEQUENCE IF NOT EXISTS planted", "notes")
    notes.replicated.cluster.execute("GRANT ALL ON SEQUENCE planted TO notes", "notes")

    def caught_up() -> bool:
        return all(router.cluster.lag_bytes(view.name) == 0 for view in router.cluster.views())

    await wait_until(caught_up, what="the sequence on the replicas")
    async with sessions.read(router.session(), policy) as reading:
        statement: Any = WRITES[what]
        with pytest.raises(WriteInReadSession) as refused:
            await reading.scalars(statement)
    assert refused.value.stable_code == "write_in_read_session"


async def test_a_broken_rule_is_a_conflict_and_leaves_nothing(opened: Opened) -> None:
    """The errors of the one tree, and no past."""
    router, sessions = opened
    client, key = router.session(), uuid.uuid4().hex

    async def add_twice() -> None:
        async with sessions.write(client) as session:
            session.add(Note(k=key, v=1))
            await session.flush()
            await session.execute(insert(Note).values(k=key, v=2))

    with pytest.raises(Conflict) as refused:
        await add_twice()
    assert refused.value.stable_code == "unique_violation"
    assert client.header == ""
    async with sessions.read(client, PRIMARY_ONLY) as reading:
        assert await reading.scalars(select(Note.v).where(Note.k == key)) == []


def test_a_reading_has_no_door_for_writes() -> None:
    """Neither by another name."""
    doors = {name for name in dir(SqlReading) if not name.startswith("_")}
    assert doors == {"get", "rows", "scalars"}
