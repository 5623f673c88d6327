"""Claims about leases: E1 and E2 of month5_kvstore/store/leases.py."""

from __future__ import annotations

from month5_kvstore.store import (
    Envelope,
    Grant,
    Interval,
    KeepAlive,
    PassTime,
    Put,
    Range,
    Revoke,
    Store,
)


def keys(store: Store) -> list[bytes]:
    return [item.key for item in store.find(Range(Interval.prefix(b""))).items]


def store_with(*commands: Grant | Put) -> Store:
    store = Store()
    for command in commands:
        store.execute(Envelope(0, command))
    return store


def test_a_key_that_was_put_without_its_lease_stays_when_the_lease_ends() -> None:
    """E2."""
    store = store_with(Grant(10, 1), Put(b"k", b"v", lease=1), Put(b"k", b"w"))
    store.execute(Envelope(0, Revoke(1)))
    assert keys(store) == [b"k"]


def test_a_key_that_moved_to_another_lease_ends_with_that_one() -> None:
    """E2."""
    store = store_with(
        Grant(10, 1), Grant(20, 2), Put(b"k", b"v", lease=1), Put(b"k", b"w", lease=2)
    )
    store.execute(Envelope(10, PassTime()))
    assert keys(store) == [b"k"]
    store.execute(Envelope(20, PassTime()))
    assert keys(store) == []


def test_all_keys_of_a_lease_go_at_one_revision() -> None:
    store = store_with(Grant(10, 1), Put(b"a", b"", lease=1), Put(b"b", b"", lease=1))
    revision = store.revision
    store.execute(Envelope(10, PassTime()))
    events, _ = store.events(revision + 1, Interval.prefix(b""))
    assert [(event.item.key, event.item.modified) for event in events] == [
        (b"a", revision + 1),
        (b"b", revision + 1),
    ]


def test_leases_that_are_due_together_end_in_the_order_of_their_deadlines() -> None:
    """E1."""
    store = store_with(
        Grant(30, 1), Grant(20, 2), Put(b"late", b"", lease=1), Put(b"early", b"", lease=2)
    )
    revision = store.revision
    store.execute(Envelope(99, PassTime()))
    events, _ = store.events(revision + 1, Interval.prefix(b""))
    assert [event.item.key for event in events] == [b"early", b"late"]


def test_a_lease_that_is_kept_alive_does_not_end_at_its_old_deadline() -> None:
    store = store_with(Grant(10, 1), Put(b"k", b"", lease=1))
    store.execute(Envelope(9, KeepAlive(1)))
    store.execute(Envelope(18, PassTime()))
    assert keys(store) == [b"k"]
    store.execute(Envelope(19, PassTime()))
    assert keys(store) == []


def test_what_is_due_has_ended_before_the_command_that_brings_the_time() -> None:
    """E1: a keep-alive that comes too late is refused on every node alike."""
    store = store_with(Grant(10, 1))
    answer = store.execute(Envelope(10, KeepAlive(1)))
    assert getattr(answer, "code", "") == "lease_not_found"
