"""Claims about sessions: X1 and X2 of month5_kvstore/store/sessions.py."""

from __future__ import annotations

import pytest

from month5_kvstore.store import (
    Answer,
    Done,
    Envelope,
    Grant,
    Interval,
    LeaseAnswer,
    OpenSession,
    PassTime,
    Put,
    Range,
    Refused,
    Revoke,
    SessionOpened,
    Store,
    freeze,
    restore,
)
from month5_kvstore.store.sessions import ANSWERS_MAX


def opened(store: Store, ttl_ms: int = 1000) -> int:
    answer = store.execute(Envelope(0, OpenSession(ttl_ms)))
    assert isinstance(answer, SessionOpened)
    return answer.id


def code(answer: Answer) -> str:
    return answer.code if isinstance(answer, Refused) else ""


PUT = Put(b"k", b"v")


def test_a_repeated_command_gets_the_first_answer_and_changes_nothing() -> None:
    """X1."""
    store = Store()
    session = opened(store)
    first = store.execute(Envelope(0, PUT, session, 1))
    store.execute(Envelope(0, Put(b"k", b"other")))
    assert store.execute(Envelope(0, PUT, session, 1)) == first
    assert store.find(Range(Interval(b"k"))).items[0].value == b"other"


def test_a_refusal_is_remembered_too() -> None:
    """X1: what was refused once may not succeed the second time."""
    store = Store()
    session = opened(store)
    put = Put(b"k", b"v", lease=7)
    first = store.execute(Envelope(0, put, session, 1))
    assert code(first) == "lease_not_found"
    store.execute(Envelope(0, Grant(1000, 7)))
    assert store.execute(Envelope(0, put, session, 1)) == first


def test_commands_of_a_session_may_overtake_each_other() -> None:
    store = Store()
    session = opened(store)
    for sequence in (3, 1, 2):
        answer = store.execute(Envelope(0, PUT, session, sequence))
        assert not code(answer)
    assert store.revision == 4


def test_an_acknowledged_answer_is_forgotten_and_its_command_not_repeated() -> None:
    """X1."""
    store = Store()
    session = opened(store)
    store.execute(Envelope(0, PUT, session, 1))
    store.execute(Envelope(0, PUT, session, 2, acknowledged_below=2))
    revision = store.revision
    assert code(store.execute(Envelope(0, PUT, session, 1))) == "sequence_forgotten"
    assert store.revision == revision


def test_a_session_ends_after_its_time_unused_and_never_carries_out_again() -> None:
    """X2."""
    store = Store()
    session = opened(store, ttl_ms=100)
    store.execute(Envelope(0, PUT, session, 1))
    store.execute(Envelope(99, PUT, session, 2))
    store.execute(Envelope(198, PassTime()))
    assert not code(store.execute(Envelope(198, PUT, session, 3)))
    revision = store.revision
    assert code(store.execute(Envelope(298, PUT, session, 1))) == "session_expired"
    assert store.revision == revision


def test_a_session_id_is_never_given_twice() -> None:
    store = Store()
    first = opened(store, ttl_ms=1)
    store.execute(Envelope(10, PassTime()))
    assert opened(restore(freeze(store).encode())) > first


def test_answers_survive_a_snapshot() -> None:
    """X1: the node that answers the retry may have started from a snapshot."""
    store = Store()
    session = opened(store)
    first = store.execute(Envelope(0, Grant(1000), session, 1))
    restored = restore(freeze(store).encode())
    assert restored.execute(Envelope(0, Grant(1000), session, 1)) == first
    assert isinstance(restored.execute(Envelope(0, Grant(1000), session, 2)), LeaseAnswer)


def test_a_client_that_acknowledges_nothing_is_stopped() -> None:
    store = Store()
    session = opened(store)
    for sequence in range(1, ANSWERS_MAX + 1):
        store.execute(Envelope(0, PassTime(), session, sequence))
    over = ANSWERS_MAX + 1
    assert code(store.execute(Envelope(0, PUT, session, over))) == "too_many_unacknowledged"
    assert not code(store.execute(Envelope(0, PUT, session, over, acknowledged_below=2)))


@pytest.mark.parametrize("time_ms", [0, 50, 1000])
def test_time_never_goes_back(time_ms: int) -> None:
    """A new leader whose clock is behind extends leases; it never shortens one."""
    store = Store()
    store.execute(Envelope(100, Grant(50, 1)))
    store.execute(Envelope(time_ms, PassTime()))
    alive = isinstance(store.execute(Envelope(0, Revoke(1))), Done)
    assert alive is (time_ms < 150)
    assert store.time_ms == max(100, time_ms)
