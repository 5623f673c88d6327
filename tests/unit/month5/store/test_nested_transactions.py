"""Transactions inside transactions: decided first, then carried out as one."""

from __future__ import annotations

import pytest

from month5_kvstore.store import (
    Compare,
    Delete,
    Envelope,
    Found,
    Interval,
    Put,
    Range,
    Refused,
    Relation,
    Store,
    Target,
    Transaction,
    TransactionDone,
    check,
    encode_envelope,
    freeze,
    keys_of,
    restore,
)
from scalelab.errors import TooLarge

_ABSENT = Compare(b"a", Target.VERSION, Relation.EQUAL, 0)
_PUT, _DELETE = Put(b"a", b"1"), Delete(Interval(b"a"))


def run(store: Store, transaction: Transaction) -> TransactionDone | Refused:
    """Through the log's bytes, as a node has it."""
    done = store.apply(encode_envelope(Envelope(0, transaction)))
    assert isinstance(done, TransactionDone | Refused)
    return done


def inside(*steps: Put | Delete | Range | Transaction) -> Transaction:
    return Transaction((), steps)


def test_conditions_inside_look_at_what_was_there_before_the_outermost_one() -> None:
    store = Store()
    inner = Transaction((_ABSENT,), (Put(b"b", b"absent"),), (Put(b"b", b"there"),))
    done = run(store, Transaction((), (_PUT, inner)))
    assert isinstance(done, TransactionDone)
    assert store.find(Range(Interval(b"b"))).items[0].value == b"absent"


def test_answers_have_the_shape_of_the_branches_that_were_taken() -> None:
    store = Store()
    look = Range(Interval(b"a"))
    no = Transaction((Compare(b"a", Target.VERSION, Relation.EQUAL, 7),), (), (look, look))
    done = run(store, inside(_PUT, inside(look), no))
    assert isinstance(done, TransactionDone)
    _, first, second = done.answers
    assert isinstance(first, TransactionDone)
    assert isinstance(second, TransactionDone)
    assert (done.succeeded, first.succeeded, second.succeeded) == (True, True, False)
    assert [len(one.answers) for one in (first, second)] == [1, 2]
    assert all(isinstance(one, Found) and one.count == 1 for one in second.answers)


def test_everything_that_is_carried_out_has_one_revision() -> None:
    """S2."""
    store = Store()
    run(store, inside(Put(b"a", b""), inside(Put(b"b", b""), inside(Put(b"c", b"")))))
    assert store.revision == 2
    found = store.find(Range(Interval.prefix(b""))).items
    assert [(one.key, one.modified) for one in found] == [(b"a", 2), (b"b", 2), (b"c", 2)]


def test_one_that_is_refused_deep_inside_changes_nothing() -> None:
    """S2."""
    store = Store()
    done = run(store, inside(_PUT, inside(Put(b"b", b"", lease=9))))
    assert isinstance(done, Refused)
    assert (done.code, store.revision, store.keys.count) == ("lease_not_found", 1, 0)


def test_what_stands_in_a_branch_that_is_not_taken_is_not_looked_at() -> None:
    store = Store()
    done = run(store, Transaction((), (_PUT,), (inside(Put(b"b", b"", lease=9)),)))
    assert isinstance(done, TransactionDone)


@pytest.mark.parametrize(
    "steps",
    [
        (_PUT, inside(_PUT)),
        (inside(_PUT), inside(_PUT)),
        (inside(inside(_PUT)), _DELETE),
        (_DELETE, inside(_PUT)),
        (inside(_DELETE), inside(_PUT)),
        (inside(_DELETE), _PUT),
        (Transaction((_ABSENT,), (), (_PUT,)), _PUT),
    ],
)
def test_a_key_that_might_be_written_twice_is_refused(
    steps: tuple[Put | Delete | Transaction, ...],
) -> None:
    done = run(Store(), inside(*steps))
    assert isinstance(done, Refused)
    assert done.code == "duplicate_key"


@pytest.mark.parametrize(
    "steps",
    [
        (Transaction((_ABSENT,), (_PUT,), (_PUT,)),),
        (Transaction((_ABSENT,), (_PUT,), (_DELETE,)),),
        (inside(_PUT), inside(_DELETE)),
    ],
)
def test_a_key_that_is_written_once_in_each_branch_is_not(
    steps: tuple[Transaction, ...],
) -> None:
    assert isinstance(run(Store(), inside(*steps)), TransactionDone)


def test_a_key_that_was_put_and_deleted_at_one_revision_is_frozen_and_restored() -> None:
    """S1, S4."""
    store = Store()
    run(store, inside(inside(_PUT), inside(_DELETE)))
    again = restore(freeze(store).encode())
    assert freeze(again).encode() == freeze(store).encode()
    events, _ = again.events(2, Interval(b"a"))
    assert [event.kind.name for event in events] == ["PUT", "DELETE"]
    assert store.find(Range(Interval(b"a"))).count == 0


def test_the_deepest_one_that_is_let_in_can_be_read_back() -> None:
    deep = inside(Put(b"a", b"1"), Delete(Interval(b"b", b"c")), Range(Interval(b"d", b"e")))
    while True:
        outer = inside(deep)
        try:
            check(outer)
        except TooLarge:
            break
        deep = outer
    assert isinstance(run(Store(), deep), TransactionDone)


def test_conditions_and_operations_are_counted_at_all_levels() -> None:
    half = tuple(Range(Interval(b"a")) for _ in range(64))
    check(Transaction((), (*half[:62], Transaction((), half))))
    with pytest.raises(TooLarge):
        check(Transaction((), (*half, Transaction((), half))))


def test_the_keys_inside_count_when_its_group_is_looked_for() -> None:
    inner = Transaction((_ABSENT,), (Put(b"b", b""),), (Delete(Interval(b"c")),))
    assert keys_of(inside(Put(b"d", b""), inner)) == [b"d", b"a", b"b", b"c"]
