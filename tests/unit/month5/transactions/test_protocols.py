"""Rules of intents, workspaces and protocols, one each, on true stores."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from month5_kvstore.node import group_of
from month5_kvstore.store import Compare, Envelope, Interval, KeyValue, Put, Range, Relation, Target
from month5_kvstore.transactions import intents as wire
from month5_kvstore.transactions import protocols
from month5_kvstore.transactions.calls import Call, Pause, Reply, Wish
from month5_kvstore.transactions.intents import Change, Intent
from month5_kvstore.transactions.places import begun_s, beside, decision_key, intent_key
from month5_kvstore.transactions.protocols import Ended
from month5_kvstore.transactions.workspace import KEYS_MAX, Workspace
from scalelab.commit import Outcome
from scalelab.errors import CorruptData, InvalidInput, TooLarge, Unavailable
from tests.unit.month5.transactions.interleaving import NOW, Groups, driven

TX = "019b76daa8007000800000000000000a"
OTHER = "019b76daa8007000800000000000000b"
A, B, C = b"a", b"b", b"c"


@pytest.fixture
def groups() -> Groups:
    made = Groups()
    for key in (A, B, C):
        made.stores[group_of(key)].execute(Envelope(0, Put(key, b"old")))
    return made


def work(groups: Groups, *, reads: tuple[bytes, ...] = (), **writes: bytes) -> Workspace:
    made = Workspace()
    if reads:
        made.saw(groups.run(protocols.read(reads, patience=0)))
    for key, value in writes.items():
        made.put(key.encode(), value)
    return made


def prepared(groups: Groups, tx: str, made: Workspace, parts: int = 100) -> list[Intent]:
    """As a coordinator leaves it that dies before its record."""
    for ours in list(made.intents(tx).values())[:parts]:
        groups.carry_out(Call("prepare", wire.prepare(ours, made.seen)))
    return groups.intents()


def read(found: Mapping[bytes, KeyValue | None]) -> dict[bytes, bytes]:
    return {key: item.value for key, item in found.items() if item is not None}


def record(groups: Groups, tx: str, outcome: Outcome) -> None:
    groups.carry_out(Call("record", wire.record(tx, outcome)), tx)


def committed(groups: Groups, tx: str, made: Workspace) -> Ended:
    return groups.run(protocols.commit(tx, made))


@pytest.mark.parametrize("key", [b"a", b"{cart-7}/items", b"x{t}y}", b"a{b", b"\xff\x80"])
def test_an_intent_lies_in_the_group_of_its_key(key: bytes) -> None:
    assert group_of(intent_key(key)) == group_of(key)
    assert group_of(beside(b"saga/stand", key, b"1f")) == group_of(key)


def test_two_keys_have_two_intents() -> None:
    keys = [b"a", b"{a}", b"of/a", b"-of/{a}", b"/a", b"{a}/b", b"a{", b"{a"]
    assert len({intent_key(key) for key in keys}) == len(keys)


@pytest.mark.parametrize("key", [b"", b"\x00mine", b"a}b", b"{}", b"{}x{y}"])
def test_a_key_that_cannot_be_locked_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidInput):
        Workspace().put(key, b"")
    with pytest.raises(TooLarge):
        intent_key(b"k" * 4096)


def test_an_id_tells_when_its_transaction_began() -> None:
    assert abs(begun_s(TX) - NOW.timestamp()) < 0.001


def test_an_intent_is_put_only_where_none_is(groups: Groups) -> None:
    """L1."""
    prepared(groups, TX, work(groups, a=b"1", b=b"1"))
    prepared(groups, OTHER, work(groups, a=b"2"))
    assert {intent.tx for intent in groups.intents()} == {TX}


def test_an_intent_is_put_only_if_the_key_is_as_it_was_read(groups: Groups) -> None:
    """L1, and C4: two have read the same version."""
    first = work(groups, reads=(A, B), a=b"1", b=b"1")
    second = work(groups, reads=(A, B), a=b"2", b=b"2")
    assert committed(groups, TX, first).outcome is Outcome.COMMIT
    assert committed(groups, OTHER, second).outcome is Outcome.ABORT
    assert groups.values() == {A: b"1", B: b"1", C: b"old"}


def test_an_intent_goes_only_by_the_word_on_its_own_transaction(groups: Groups) -> None:
    """L2: a late end of another transaction finds other bytes."""
    late = tuple(work(groups, a=b"1", b=b"1").intents(OTHER).values())
    prepared(groups, TX, work(groups, a=b"2", b=b"2"))
    before = groups.intents()
    for ours in late:
        for outcome in Outcome:
            groups.carry_out(Call("finish", wire.finish(ours, outcome)))
    assert groups.intents() == before


@pytest.mark.parametrize("outcome", [Outcome.COMMIT, None])
def test_one_intent_is_enough_to_end_the_transaction_in_every_group(
    groups: Groups, outcome: Outcome | None
) -> None:
    """L4: by the record if there is one, else by an abort, which is recorded."""
    found = prepared(groups, TX, work(groups, a=b"1", b=b"1", c=b"1"))
    if outcome:
        record(groups, TX, outcome)
    ended = groups.run(protocols.settle(found[-1]))
    assert (ended.outcome, ended.ended_here) == (outcome or Outcome.ABORT, True)
    assert groups.intents() == []
    assert set(groups.values().values()) == ({b"1"} if outcome else {b"old"})


def test_a_coordinator_that_comes_late_to_its_record_reads_the_abort(groups: Groups) -> None:
    def tell(wish: Wish) -> None:
        if isinstance(wish, tuple) and wish[0].step == "record":
            groups.recover()

    ended = groups.run(protocols.commit(TX, work(groups, a=b"1", b=b"1")), tell)
    assert ended.outcome is Outcome.ABORT
    assert groups.values() == {A: b"old", B: b"old", C: b"old"}


def test_a_settled_transaction_that_is_met_again_is_left_alone(groups: Groups) -> None:
    """Whoever settles it second ends nothing, and says so."""
    met = prepared(groups, TX, work(groups, a=b"1", b=b"1"))[0]
    groups.run(protocols.settle(met))
    again = groups.run(protocols.settle(met))
    assert again == Ended(None)


def test_of_two_that_settle_at_once_one_has_ended_it(groups: Groups) -> None:
    met = prepared(groups, TX, work(groups, a=b"1", b=b"1"))[0]
    ended: list[Ended] = []

    def tell(wish: Wish) -> None:
        if isinstance(wish, tuple) and wish[0].step == "finish":
            ended.append(groups.run(protocols.settle(met)))

    ended.append(groups.run(protocols.settle(met), tell))
    assert [one.ended_here for one in ended] == [True, False]


def test_a_reader_gives_the_undecided_so_many_pauses_and_then_aborts_it(groups: Groups) -> None:
    prepared(groups, TX, work(groups, a=b"1", b=b"1"))
    locked: list[int] = []

    def tell(wish: Wish) -> None:
        if isinstance(wish, Pause):
            locked.append(len(groups.intents()))

    assert read(groups.run(protocols.read([A], patience=3), tell)) == {A: b"old"}
    assert locked == [2, 2, 2]
    assert groups.intents() == []


def test_a_reader_does_not_wait_for_the_decided(groups: Groups) -> None:
    prepared(groups, TX, work(groups, a=b"1", b=b"1"))
    record(groups, TX, Outcome.COMMIT)
    wishes: list[Wish] = []
    found = groups.run(protocols.read([A], patience=1000), wishes.append)
    assert read(found) == {A: b"1"}
    assert not any(isinstance(wish, Pause) for wish in wishes)


def test_a_silent_group_makes_a_read_fail() -> None:
    protocol = protocols.read([A], patience=0)
    next(protocol)
    with pytest.raises(Unavailable):
        protocol.send((None,))


def test_a_lost_record_is_asked_for_again_and_then_called_unknown(groups: Groups) -> None:
    """Neither a commit nor an abort may be guessed."""
    steps: list[str] = []

    def answer(wish: Wish) -> tuple[Reply, ...]:
        assert isinstance(wish, tuple)
        steps.extend(call.step for call in wish)
        return (None,) if steps[-1] == "record" else tuple(map(groups.carry_out, wish))

    ended = driven(protocols.commit(TX, work(groups, a=b"1", b=b"1")), answer)
    assert ended == Ended(None)
    assert steps == ["prepare"] * 2 + ["record"] * 3
    assert len(groups.intents()) == 2


def test_what_only_reads_leaves_no_intent_and_what_writes_locks_its_reads(groups: Groups) -> None:
    """W2."""
    reader, writer = work(groups, reads=(A, B)), work(groups, reads=(A, B), c=b"1")
    assert not reader.writes
    changes = {one.key: one.change for ours in writer.intents(TX).values() for one in ours}
    assert changes == {A: Change.LOCK, B: Change.LOCK, C: Change.PUT}


def test_two_that_each_write_what_the_other_read_do_not_both_commit(groups: Groups) -> None:
    """Write skew: the reason why reads are locked as well."""
    first, second = work(groups, reads=(A, B), a=b"1"), work(groups, reads=(A, B), b=b"1")
    one, other = protocols.commit(TX, first), protocols.commit(OTHER, second)
    wishes = [next(one), next(other)]
    ends: list[Outcome | None] = []
    for place, protocol in ((0, one), (1, other), (0, one), (1, other)) * 3:
        wish = wishes[place]
        if isinstance(wish, tuple):
            try:
                wishes[place] = protocol.send(tuple(map(groups.carry_out, wish)))
            except StopIteration as stop:
                ends.append(stop.value.outcome)
                wishes[place] = Pause(0)
    assert sorted(str(end) for end in ends) == ["abort", "commit"]


def test_a_transaction_sees_its_own_writes_and_one_value_of_a_key(groups: Groups) -> None:
    """W1."""
    made = work(groups, reads=(A,), b=b"mine")
    as_read = made.seen[A]
    groups.stores[group_of(A)].execute(Envelope(0, Put(A, b"newer")))
    made.saw(groups.run(protocols.read([A, B], patience=0)))
    made.delete(C)
    assert [made.value(key) for key in (A, B, C)] == [b"old", b"mine", None]
    assert made.seen[A] == as_read, "the newer one would pass for what was read"


def test_one_group_alone_is_asked_once_and_nothing_is_recorded(groups: Groups) -> None:
    made = Workspace()
    made.put(b"{d}/1", b"1")
    made.put(b"{d}/2", b"1")
    wishes: list[Wish] = []
    groups.run(protocols.commit(TX, made), wishes.append)
    steps = [[call.step for call in wish] for wish in wishes if isinstance(wish, tuple)]
    assert steps == [["commit"]]
    stored = groups.stores[group_of(b"{d}/1")].find(Range(Interval.prefix(b"\x00")))
    assert stored.count == 0


def test_a_commit_that_everybody_was_told_of_is_forgotten(groups: Groups) -> None:
    committed(groups, TX, work(groups, a=b"1", b=b"1"))
    place = group_of(decision_key(TX))
    assert groups.stores[place].find(Range(Interval(decision_key(TX)))).count == 0


def test_too_many_keys_and_too_large_values_are_refused_before_anything_is_asked() -> None:
    made = Workspace()
    for number in range(KEYS_MAX):
        made.put(b"%d" % number, b"")
    with pytest.raises(TooLarge):
        made.put(b"one more", b"")
    assert len(made.keys) == KEYS_MAX
    large = Workspace()
    for key in (A, B):
        large.put(key, b"x" * (1 << 20))
    with pytest.raises(TooLarge):
        next(protocols.commit(TX, large))


def test_bytes_that_are_no_intent_or_no_decision_are_called_so(groups: Groups) -> None:
    with pytest.raises(CorruptData):
        wire.decode(b"\x03")
    place = group_of(decision_key(TX))
    groups.stores[place].execute(Envelope(0, Put(decision_key(TX), b"maybe")))
    with pytest.raises(CorruptData):
        wire.known(groups.carry_out(Call("ask", wire.decision(TX))))


def test_a_condition_names_the_revision_that_was_read(groups: Groups) -> None:
    """Zero for a key that was not there, so that its making is a change too."""
    compares = wire.unchanged([b"new"], {b"new": 0})
    assert Compare(b"new", Target.MODIFIED, Relation.EQUAL, 0) in compares
