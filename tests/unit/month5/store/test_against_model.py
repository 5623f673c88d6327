"""Claims about the store, held against a model too simple to be wrong: S1 to S4, E1."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from month5_kvstore.store import (
    Answer,
    Command,
    Compact,
    Compare,
    Delete,
    Envelope,
    Grant,
    Interval,
    KeepAlive,
    PassTime,
    Put,
    Range,
    Refused,
    Relation,
    Revoke,
    Store,
    Target,
    Transaction,
    encode_envelope,
    freeze,
    restore,
)
from scalelab.errors import ScalelabError
from tests.unit.month5.store.dumb_model import DumbModel

keys = st.sampled_from([b"a", b"a\x00", b"b", b"ba", b"c", b"\xff", b"\xff\xff"])
values = st.sampled_from([b"", b"x", b"y" * 40])
intervals = st.one_of(
    keys.map(Interval),
    st.builds(Interval, keys, st.one_of(keys, st.just(b""))),
    keys.map(Interval.prefix),
)
lease_ids = st.integers(0, 4)
puts = st.builds(Put, keys, values, lease_ids, want_previous=st.booleans()) | st.builds(
    Put, keys, st.just(b""), keep_value=st.booleans(), keep_lease=st.booleans()
)
ranges = st.builds(
    Range,
    intervals,
    st.integers(0, 12),
    st.integers(0, 3),
    count_only=st.booleans(),
    keys_only=st.booleans(),
)
deletes = st.builds(Delete, intervals, st.booleans())
operations = st.lists(puts | ranges | deletes, max_size=4).map(tuple)
relations = st.sampled_from(Relation)
numbers = st.sampled_from([Target.VERSION, Target.CREATED, Target.MODIFIED, Target.LEASE])
compares = st.lists(
    st.builds(Compare, keys, numbers, relations, st.integers(0, 6))
    | st.builds(Compare, keys, st.just(Target.VALUE), relations, values),
    max_size=2,
).map(tuple)
flat = st.builds(Transaction, compares, operations, operations)
steps = st.lists(puts | ranges | deletes | flat, max_size=3).map(tuple)
nested = st.builds(Transaction, compares, steps, steps)
deeper = st.lists(puts | deletes | nested, max_size=3).map(tuple)
commands: st.SearchStrategy[Command] = st.one_of(
    puts,
    puts,
    deletes,
    flat,
    nested,
    st.builds(Transaction, compares, deeper, deeper),
    st.builds(Grant, st.integers(1, 30), st.integers(0, 3)),
    st.builds(Revoke, lease_ids),
    st.builds(KeepAlive, lease_ids),
    st.builds(Compact, st.integers(1, 12)),
    st.just(PassTime()),
)
stories = st.lists(st.tuples(commands, st.integers(0, 60)), max_size=30)


def plain(answer: Answer) -> Answer:
    """Without the words of a refusal, which are for people."""
    return replace(answer, message="") if isinstance(answer, Refused) else answer


def run(store: Store, command: Command, time_ms: int) -> Answer:
    return plain(store.apply(encode_envelope(Envelope(time_ms, command))))


@settings(max_examples=100)
@given(story=stories, queries=st.lists(ranges, max_size=6))
def test_every_answer_is_the_models(story: list[tuple[Command, int]], queries: list[Range]) -> None:
    """S2, S3, E1."""
    store, model = Store(), DumbModel()
    for command, time_ms in story:
        assert run(store, command, time_ms) == model.execute(command, time_ms)
        assert store.revision == model.revision
    for query in queries:
        try:
            found: Answer = store.find(query)
        except ScalelabError as error:
            compacted: int = getattr(error, "compacted", 0)
            found = Refused(error.stable_code, "", compacted)
        assert plain(found) == model.find(query)


@settings(max_examples=100)
@given(story=stories, interval=intervals, pace=st.integers(1, 4))
def test_a_watcher_sees_every_change_once_in_order(
    story: list[tuple[Command, int]], interval: Interval, pace: int
) -> None:
    """S4."""
    store, model = Store(), DumbModel()
    for command, time_ms in story:
        run(store, command, time_ms)
        model.execute(command, time_ms)
    first = cursor = max(1, store.compacted + 1)
    seen = []
    while cursor <= store.revision:
        events, cursor = store.events(cursor, interval, revisions_max=pace)
        seen += [event._replace(previous=None) for event in events]
    assert seen == model.events_from(first, interval)


@settings(max_examples=100)
@given(before=stories, after=stories)
def test_a_restored_store_goes_on_as_the_one_that_was_frozen(
    before: list[tuple[Command, int]], after: list[tuple[Command, int]]
) -> None:
    """S1, and K2: what was frozen is written after the store has gone on."""
    store, other = Store(), Store()
    for command, time_ms in before:
        run(store, command, time_ms)
        run(other, command, time_ms)
    frozen, told = freeze(store), freeze(other).encode()
    answers = [run(store, command, time_ms) for command, time_ms in after]
    assert frozen.encode() == told
    restored = restore(told)
    assert restored.size_bytes == other.size_bytes
    assert [run(restored, command, time_ms) for command, time_ms in after] == answers
    assert freeze(restored).encode() == freeze(store).encode()
