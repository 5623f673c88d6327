"""Remembering heads changes no decision: K1 to K3 of known_heads.py, against the parser itself."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from month1_caching_gateway.gateway.heads import RequestHead, ResponseHead, parse_request_head
from month1_caching_gateway.gateway.known_heads import FORGET_S, KnownAnswers, KnownHeads
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.gateway.recent import Recent
from tests.unit.month1.gateway.test_heads_and_bodies import header_lines, request_lines, wires


def meaning(head: RequestHead) -> tuple[object, ...]:
    """Everything that is decided by."""
    return (
        head.method,
        head.target,
        head.http10,
        head.headers,
        head.named,
        head.framing,
        head.length,
        head.keep_alive,
        head.expects_continue,
        head.connection,
    )


def judged(wire: bytes, known: KnownHeads) -> object:
    try:
        return meaning(known.read(wire))
    except Refused as refused:
        return (refused.status, refused.code)


def anew(wire: bytes) -> object:
    try:
        return meaning(parse_request_head(wire))
    except Refused as refused:
        return (refused.status, refused.code)


@settings(max_examples=60)
@given(st.lists(wires(), min_size=2, max_size=8))
def test_a_head_means_the_same_whatever_was_read_before(batch: list[bytes]) -> None:
    """K1, K2: each wire twice, after all the others."""
    known = KnownHeads(max_headers=100)
    for wire in batch + batch:
        assert judged(wire, known) == anew(wire)


@settings(max_examples=60)
@given(
    st.lists(request_lines, min_size=1, max_size=4),
    st.lists(st.lists(header_lines, max_size=4).map(tuple), min_size=1, max_size=4),
)
def test_every_line_with_every_block_means_what_the_parser_says(
    lines: list[bytes], blocks: list[tuple[bytes, ...]]
) -> None:
    """K3: halves that were only ever seen with other halves are put together as parsed whole."""
    known = KnownHeads(max_headers=100)
    wires = []
    for line in lines:
        for block in blocks:
            wire = b"\r\n".join((line, b"Host: localhost", *block, b"", b""))
            wires.append(wire[: wire.find(b"\r\n\r\n") + 4])
    for wire in wires[::2] + wires:
        assert judged(wire, known) == anew(wire)


def test_a_block_that_is_not_used_for_two_turns_is_forgotten() -> None:
    """Credentials do not stay: after that time the same bytes are read anew."""
    known = KnownHeads(max_headers=100)
    wire = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\r\n"
    first = known.read(wire)
    assert known.read(wire).fields is first.fields
    for turn in range(1, 3):
        known.sweep(turn * FORGET_S)
    assert known.read(wire).fields is not first.fields


def test_an_answer_that_sets_a_cookie_is_not_remembered() -> None:
    """What is one caller's stays with that caller's answer."""
    known = KnownAnswers()

    def read(extra: bytes) -> ResponseHead:
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + extra + b"\r\n"
        return known.read(raw, to_head_request=False)

    assert read(b"") is read(b"")
    assert read(b"Set-Cookie: a=b\r\n") is not read(b"Set-Cookie: a=b\r\n")


def test_an_answer_to_head_is_not_taken_for_one_to_get() -> None:
    """The same bytes end in other places: a HEAD answer has no body, whatever length it tells."""
    known = KnownAnswers()
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert known.read(raw, to_head_request=True).length == 0
    assert known.read(raw, to_head_request=False).length == 5
    assert known.read(raw, to_head_request=True).length == 0


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 5))
def test_recent_is_bounded_and_never_wrong(keys: list[int], size: int) -> None:
    """It may forget, it may not confuse."""
    recent: Recent[int, int] = Recent(size)
    for key in keys:
        assert recent.get(key) in (None, -key)
        recent.put(key, -key)
        assert recent.get(key) == -key
        assert len(recent) <= 2 * size
