"""The provider's book as bytes and as an index."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.payments.book import (
    ChargeAsked,
    Index,
    Line,
    LineKind,
    RefundAsked,
    encode,
    read,
)
from scalelab.errors import Conflict, CorruptData, IdempotencyMismatch, NotFound


def charge_line(seq: int, *, key: str | None = None, amount_minor: int = 100) -> Line:
    return Line(seq, "t", LineKind.CHARGE, key or f"k{seq}", "o", f"ch{seq}", amount_minor, "EUR")


LINES = [charge_line(number) for number in (1, 2, 3)]
BYTES = b"".join(map(encode, LINES))


@pytest.mark.parametrize("cut", range(len(BYTES) + 1))
def test_a_torn_tail_is_cut_at_the_last_whole_line(cut: int) -> None:
    """B4 for a tear after every byte: whole lines stay, the rest goes, nothing is refused."""
    torn = BYTES[:cut]
    lines, good_bytes = read(torn)
    assert lines == LINES[: torn.count(b"\n")]
    assert torn[:good_bytes] == b"".join(map(encode, lines))


@given(st.integers(0, len(BYTES) - len(encode(LINES[2])) - 1), st.integers(1, 255))
def test_one_damaged_byte_before_the_tail_is_never_believed(position: int, flip: int) -> None:
    """B4 for every byte and every change of it: refused, or it still says the same."""
    damaged = bytearray(BYTES)
    damaged[position] ^= flip
    try:
        lines, _ = read(bytes(damaged))
    except CorruptData:
        return
    assert lines == LINES


@pytest.mark.parametrize(
    "middle",
    [b"\n", b"{}\n", b"[]\n", b"null\n", encode(charge_line(3)), encode(charge_line(1))],
)
def test_a_gap_a_repeat_or_rubbish_in_the_middle_is_refused(middle: bytes) -> None:
    """B3, B4."""
    with pytest.raises(CorruptData, match="line 2"):
        read(encode(LINES[0]) + middle + encode(LINES[2]))


def test_a_key_gets_the_same_line_after_a_restart() -> None:
    """B1: the index rebuilt from the file answers as the old one did."""
    index = Index(LINES)
    asked = ChargeAsked("k2", "o", 100, "EUR")
    line = index.charge(asked, declined=False, charge_id="other", at="later")
    assert line == LINES[1]
    assert not index.is_new(line)
    with pytest.raises(IdempotencyMismatch):
        index.charge(ChargeAsked("k2", "o", 101, "EUR"), declined=False, charge_id="x", at="t")


@given(st.lists(st.integers(1, 60), max_size=20))
def test_refunds_never_exceed_the_charge(amounts: list[int]) -> None:
    """B2 for any sequence of partial refunds under distinct keys."""
    index = Index([charge_line(1, amount_minor=100)])
    for number, amount_minor in enumerate(amounts):
        try:
            line = index.refund(RefundAsked(f"r{number}", "ch1", amount_minor), at="t")
        except Conflict:
            assert index.refunded_minor("ch1") + amount_minor > 100
            continue
        index.add(line)
    assert index.refunded_minor("ch1") <= 100


def test_a_refund_key_belongs_to_one_charge() -> None:
    """And an unknown charge is not found."""
    index = Index(LINES)
    index.add(index.refund(RefundAsked("r", "ch1"), at="t"))
    with pytest.raises(IdempotencyMismatch):
        index.refund(RefundAsked("r", "ch2"), at="t")
    with pytest.raises(NotFound):
        index.refund(RefundAsked("r9", "ch9"), at="t")
