"""Claims about single rules of the store: quota, compaction, limits, intervals, damaged bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from month5_kvstore.store import (
    Answer,
    Command,
    Compact,
    Compare,
    Delete,
    Disarm,
    Envelope,
    Grant,
    Interval,
    OpenSession,
    Operation,
    Put,
    Range,
    Refused,
    Relation,
    RevisionCompacted,
    SetQuota,
    Store,
    Target,
    Transaction,
    check,
    check_range,
    freeze,
    restore,
)
from month5_kvstore.store.codec import Codec
from month5_kvstore.store.key_map import CHUNK_KEYS, KeyMap
from month5_kvstore.store.values import Version
from month5_kvstore.store.wire import TYPES
from scalelab.errors import CorruptData, InvalidInput, TooLarge


def run(store: Store, *commands: Command) -> Answer:
    answers = [store.execute(Envelope(0, command)) for command in commands]
    return answers[-1]


def code(answer: Answer) -> str:
    return answer.code if isinstance(answer, Refused) else ""


def test_a_full_store_refuses_puts_and_grants_until_space_was_made_and_the_alarm_ended() -> None:
    store = Store()
    run(store, SetQuota(2000), Put(b"k", bytes(1000)))
    assert code(run(store, Put(b"k", bytes(1000)))) == "no_space"
    assert code(run(store, Put(b"small", b""))) == "no_space"
    assert code(run(store, Grant(10))) == "no_space"
    run(store, Delete(Interval(b"k")))
    assert code(run(store, Put(b"k", bytes(1000)))) == "no_space"
    run(store, Compact(store.revision), Disarm())
    assert not code(run(store, Put(b"k", bytes(1000))))


def test_a_transaction_that_does_not_fit_changes_nothing() -> None:
    """S2."""
    store = Store()
    run(store, SetQuota(2000))
    puts = tuple(Put(b"k%d" % number, bytes(500)) for number in range(4))
    assert code(run(store, Transaction(then=puts))) == "no_space"
    assert (store.revision, store.keys.count, store.size_bytes) == (1, 0, 0)


def test_compaction_gives_back_the_bytes_of_what_was_superseded() -> None:
    store = Store()
    run(store, Put(b"k", b"v"))
    once = store.size_bytes
    run(store, *[Put(b"k", b"v")] * 9, Put(b"gone", b"v"), Delete(Interval(b"gone")))
    run(store, Compact(store.revision))
    assert (store.size_bytes, store.keys.count) == (once, 1)


def test_a_watcher_that_compaction_overtook_is_told_where_history_begins() -> None:
    """S4."""
    store = Store()
    run(store, *[Put(b"k", b"v")] * 5, Compact(4))
    with pytest.raises(RevisionCompacted) as refused:
        store.events(4, Interval(b"k"))
    assert refused.value.compacted == 4
    events, following = store.events(5, Interval(b"k"))
    assert ([event.item.modified for event in events], following) == ([5, 6], 7)


def test_a_watcher_may_wait_for_a_revision_to_come() -> None:
    store = Store()
    assert store.events(9, Interval.prefix(b"")) == ((), 9)


def test_a_transaction_reads_what_it_has_just_written() -> None:
    store = Store()
    operations: tuple[Operation, ...] = (Put(b"k", b"v"), Range(Interval(b"k")))
    done = run(store, Transaction(then=operations))
    assert done.answers[1].items[0].value == b"v"  # type: ignore[union-attr]


def test_of_two_compare_and_swaps_from_the_same_value_one_wins() -> None:
    store = Store()
    run(store, Put(b"k", b"0"))
    swaps = [
        Transaction((Compare(b"k", Target.VALUE, Relation.EQUAL, b"0"),), (Put(b"k", value),))
        for value in (b"1", b"2")
    ]
    assert [run(store, swap).succeeded for swap in swaps] == [True, False]  # type: ignore[union-attr]


@settings(max_examples=50)
@given(keys=st.lists(st.binary(min_size=1, max_size=3), max_size=30), prefix=st.binary(max_size=2))
def test_a_prefix_names_exactly_the_keys_that_begin_with_it(
    keys: list[bytes], prefix: bytes
) -> None:
    interval = Interval.prefix(prefix)
    assert [key in interval for key in keys] == [key.startswith(prefix) for key in keys]


@settings(max_examples=30)
@given(steps=st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=60))
def test_a_large_map_stays_sorted_and_what_was_frozen_stays(
    steps: list[tuple[int, bool]],
) -> None:
    """K1, K2."""
    keys, plain = KeyMap(), dict[bytes, Version]()
    for number in range(3 * CHUNK_KEYS):
        plain[b"%04d" % number] = Version(number, 0, 0, 1, b"", 0, None)
        keys.set(b"%04d" % number, plain[b"%04d" % number])
    frozen = keys.freeze()
    before = [(chunk.keys[:], chunk.tips[:]) for chunk in frozen]
    for number, removes in steps:
        key = b"%04d" % number
        if not removes:
            plain[key] = Version(number, 1, 0, 1, b"", 0, None)
            keys.set(key, plain[key])
        elif plain.pop(key, None) is not None:
            keys.remove(key)
    assert list(keys.range(Interval(b"", b""))) == sorted(plain.items(), key=lambda item: item[0])
    assert keys.count == len(plain)
    assert [(chunk.keys, chunk.tips) for chunk in frozen] == before
    assert all(0 < len(chunk.keys) <= CHUNK_KEYS for chunk in keys.freeze())


def small_store() -> Store:
    store = Store()
    run(store, Grant(1000, 3), Put(b"k", b"v", lease=3), Put(b"k", b"w"), OpenSession(10))
    store.execute(Envelope(1, Put(b"z", b""), session=1, sequence=1))
    return store


def test_a_snapshot_with_any_bit_changed_is_refused() -> None:
    data = freeze(small_store()).encode()
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(CorruptData):
            restore(damaged)


def test_a_snapshot_cut_anywhere_is_refused() -> None:
    data = freeze(small_store()).encode()
    for length in range(1, len(data)):
        with pytest.raises(CorruptData):
            restore(data[:length])


def test_an_entry_that_is_no_command_halts() -> None:
    for data in (b"", b"\x07\x02", b"\x00", b"nonsense", b"\x06\xff\xff\xff\x7f"):
        with pytest.raises(CorruptData):
            Store().apply(data)


def test_a_record_of_an_older_version_takes_the_defaults() -> None:
    """Mixed versions: a field that was added later is missing in old logs."""
    codec = Codec(TYPES)
    old = codec.encode(Put(b"k", b"v")).replace(b"\x07\x02\x06", b"\x07\x02\x02", 1)
    shorter = old[: -1 * len(codec.encode(0) + codec.encode((False, False, False))[5:])]
    assert codec.decode(shorter) == Put(b"k", b"v")


@pytest.mark.parametrize(
    ("command", "stable_code"),
    [
        (Put(b"", b"v"), "empty_key"),
        (Put(bytes(1 << 20), b"v"), "key_too_large"),
        (Put(b"k", bytes(10 << 20)), "value_too_large"),
        (Put(b"k", b"v", keep_value=True), "invalid_input"),
        (Put(b"k", b"v", lease=-1), "invalid_input"),
        (Delete(Interval(b"")), "empty_key"),
        (Delete(Interval(bytes(5000), b"")), "key_too_large"),
        (Grant(0), "invalid_input"),
        (Grant(1000, -5), "invalid_input"),
        (OpenSession(-1), "invalid_input"),
        (Compact(0), "invalid_input"),
        (SetQuota(0), "invalid_input"),
        (Transaction(then=(Put(b"k", b""),) * 129), "too_large"),
        (Transaction((Compare(b"k", Target.VALUE, Relation.EQUAL, 1),)), "invalid_input"),
        (Transaction((Compare(b"k", Target.LEASE, Relation.EQUAL, b""),)), "invalid_input"),
        (Transaction(otherwise=(Range(Interval(b"k"), limit=-1),)), "invalid_input"),
    ],
)
def test_bad_input_is_refused_before_it_enters_the_log(command: Command, stable_code: str) -> None:
    with pytest.raises((InvalidInput, TooLarge)) as refused:
        check(command)
    assert refused.value.stable_code == stable_code


def test_a_read_is_checked_too() -> None:
    with pytest.raises(InvalidInput):
        check_range(Range(Interval(b"k"), revision=-1))


def test_any_binary_key_is_a_key() -> None:
    store = Store()
    for number in range(256):
        put = Put(bytes([number]), b"v")
        check(put)
        run(store, put)
    assert store.find(Range(Interval.prefix(b""))).count == 256
