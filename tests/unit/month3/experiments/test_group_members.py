"""The ledger of a group's members: what was given up, what came back, who stands at the gate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from month3_messaging.experiments.group_members import Ledger


def test_what_is_given_up_and_comes_back_is_counted_once() -> None:
    """Two of three come back, one in a second step; what a member never had is not given up."""
    ledger = Ledger()
    ledger.got("a", [0, 1, 2])
    ledger.gave_up("a", [0, 1, 2, 7])
    ledger.got("a", [])
    ledger.got("a", [0])
    ledger.got("b", [1])
    ledger.got("a", [2])
    assert (ledger.revoked, ledger.returned) == (3, 2)
    assert ledger.owned() == {"a": 2, "b": 1}


def test_what_a_leaving_member_gives_up_does_not_count() -> None:
    """It is gone; what the others had to give up for that is the question."""
    ledger = Ledger()
    ledger.got("a", [0])
    ledger.got("b", [1])
    ledger.begin(leaving="b")
    ledger.gave_up("b", [1])
    assert (ledger.revoked, ledger.owned()) == (0, {"a": 1})


def test_the_slow_member_owns_nothing_while_it_stands_at_the_gate() -> None:
    """Until the gate is opened it does not return."""
    ledger = Ledger()
    ledger.got("a", [0])
    ledger.begin(slow="a")
    with ThreadPoolExecutor(1) as threads:
        giving = threads.submit(ledger.gave_up, "a", [0])
        ledger.gate.set()
        giving.result(60)
    assert ledger.owned() == {}
    assert ledger.let_go == {"a"}


def test_records_processed_twice_are_told_from_those_processed_once() -> None:
    """By partition and offset; what was done before an offset is another matter."""
    ledger = Ledger()
    for offset in (3, 4, 4):
        ledger.did(0, offset)
    ledger.did(1, 9)
    assert ledger.done_from(0, 4) == 1
    assert sum(times - 1 for times in ledger.processed.values()) == 1
