"""Reading HTTP: differential against h11, and every way of cutting the bytes."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from month1_caching_gateway.gateway.bodies import (
    LAST_CHUNK,
    BadBody,
    ChunkedBody,
    LengthBody,
    chunk,
)
from month1_caching_gateway.gateway.headers import caller, first_line, upstream_request_head
from month1_caching_gateway.gateway.heads import (
    Framing,
    RequestHead,
    parse_request_head,
    parse_response_head,
)
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.gateway.targets import parse_target

TRACEPARENT = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
WHO = caller("127.0.0.1", b"http")


def forwarded(head: RequestHead, target: bytes) -> bytes:
    """What a service gets to read of this request."""
    first = first_line(head.method, target)
    return upstream_request_head(first, b"app:1", head.fields, WHO, b"id", TRACEPARENT)


names = st.sampled_from(
    [
        b"Host",
        b"Content-Length",
        b"content-length",
        b"Transfer-Encoding",
        b"Content_Length",
        b"Connection",
        b"X-A",
        b"X-User",
        b"Upgrade",
        b"X B",
        b"X-C ",
        b" X-D",
        b"",
        b"Expect",
        b"\xff",
    ]
)
values = st.sampled_from(
    [
        b"localhost",
        b"0",
        b"3",
        b"03",
        b"+3",
        b"3, 3",
        b"chunked",
        b"Chunked",
        b"gzip, chunked",
        b"close",
        b"keep-alive, X-A",
        b"",
        b"a b",
        b"a\tb",
        b"a\x00b",
        b"a\rb",
        b"a\nb",
        b"a\x7fb",
        b"a\r\n b",
        b"\xc3\xa9",
    ]
)
separators = st.sampled_from([b": "] * 10 + [b":", b" : ", b":\t", b" ", b":\x0b"])
line_ends = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r"])
good_request_lines = st.sampled_from([b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1"])
request_lines = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /a?b=c HTTP/1.1",
        b"POST / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /",
        b"get / HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET http://h/ HTTP/1.1",
    ]
)


good_lines = st.sampled_from(
    [
        b"Content-Length: 3",
        b"content-length:0",
        b"Transfer-Encoding: chunked",
        b"TRANSFER-ENCODING:\tchunked ",
        b"Connection: close",
        b"connection: keep-alive, X-A",
        b"X-A: a b",
        b"X-A:",
        b"X-User: admin",
        b"X_User: admin",
        b"X-Forwarded-For: 1.1.1.1",
        b"Expect: 100-continue",
    ]
)
odd_lines = st.builds(lambda name, colon, value: name + colon + value, names, separators, values)
header_lines = st.one_of(good_lines, good_lines, good_lines, odd_lines)


@st.composite
def wires(draw: st.DrawFn) -> bytes:
    """A request head, more or less malformed, ending in its first CRLF CRLF."""
    first = draw(st.one_of(good_request_lines, request_lines))
    lines = [first + draw(line_ends), b"Host: localhost\r\n"]
    lines += [draw(header_lines) + draw(line_ends) for _ in range(draw(st.integers(0, 4)))]
    wire = b"".join(lines) + b"\r\n"
    end = wire.find(b"\r\n\r\n")
    assume(end >= 0)
    return wire[: end + 4]


def as_h11_reads(wire: bytes) -> tuple[h11.Request, object]:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(wire)
    request = parser.next_event()
    assert isinstance(request, h11.Request)
    return request, parser.next_event()


@settings(max_examples=500)
@given(wires())
def test_what_we_accept_h11_reads_in_the_same_way(wire: bytes) -> None:
    """Method, target, headers and framing agree; we may refuse more, never understand otherwise."""
    try:
        head = parse_request_head(wire)
    except Refused:
        return
    request, after = as_h11_reads(wire)
    assert request.method.decode() == head.method
    assert request.target == head.target
    ours = [(name, value.strip(b" \t").lower()) for name, value in head.headers]
    assert [(name, value.lower()) for name, value in request.headers] == ours
    if isinstance(after, h11.EndOfMessage):
        assert (head.framing, head.length) == (Framing.NONE, 0)
    else:
        assert after is h11.NEED_DATA
        assert head.framing is not Framing.NONE


@settings(max_examples=500)
@given(wires())
def test_what_we_forward_has_one_meaning(wire: bytes) -> None:
    """The head written for the upstream parses, with one framing, and names nothing spoofed."""
    try:
        head = parse_request_head(wire)
        target = parse_target(head.target).wire()
    except Refused:
        return
    request, after = as_h11_reads(forwarded(head, target))
    sent = [name for name, _ in request.headers]
    assert sent.count(b"host") == 1
    assert sent.count(b"content-length") + sent.count(b"transfer-encoding") <= 1
    assert b"x-user" not in sent
    assert b"connection" not in sent
    assert not any(b"_" in name for name in sent)
    assert (head.framing is Framing.NONE) is isinstance(after, h11.EndOfMessage)
    again = parse_request_head(forwarded(head, target))
    assert (again.framing, again.length) == (head.framing, head.length)


@given(
    st.binary(max_size=300).map(lambda tail: b"GET / HTTP/1.1\r\nHost: a\r\n" + tail + b"\r\n\r\n")
)
def test_no_bytes_make_the_parser_fail_otherwise_than_by_refusing(wire: bytes) -> None:
    """Fuzz: a head or a Refused, never another exception."""
    wire = wire[: wire.find(b"\r\n\r\n") + 4]
    try:
        parse_request_head(wire)
    except Refused as refused:
        assert refused.close  # noqa: PT017 - either outcome is right


@given(st.binary(max_size=300))
def test_no_answer_makes_the_parser_fail_otherwise_than_by_refusing(tail: bytes) -> None:
    """The same for what an upstream sends."""
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: "):
        try:
            parse_response_head(start + tail + b"\r\n\r\n", to_head_request=False)
        except Refused as refused:
            assert refused.status == 502  # noqa: PT017 - either outcome is right


def feed_cut(body: ChunkedBody | LengthBody, wire: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Feed `wire` in pieces; payload and what follows the body."""
    payload, bounds = b"", sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        pieces, rest = body.feed(wire[start:end])
        payload += b"".join(pieces)
        if rest is not None:
            return payload, rest + wire[end:]
    raise AssertionError("the body did not end")


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    cuts=st.lists(st.integers(0, 1000), max_size=20),
    after=st.binary(max_size=10),
)
def test_a_chunked_body_is_the_same_however_it_is_cut(
    pieces: list[bytes], cuts: list[int], after: bytes
) -> None:
    """Payload and the first byte after it do not depend on how the network cuts."""
    wire = b"".join(chunk(piece) for piece in pieces) + LAST_CHUNK + after
    got = feed_cut(ChunkedBody(trailers=False), wire, cuts)
    assert got == (b"".join(pieces), after)


@given(
    body=st.binary(min_size=1, max_size=100),
    cuts=st.lists(st.integers(0, 1000), max_size=10),
    after=st.binary(max_size=10),
)
def test_a_body_of_known_length_ends_at_its_length(
    body: bytes, cuts: list[int], after: bytes
) -> None:
    """Not a byte more or less."""
    assert feed_cut(LengthBody(len(body)), body + after, cuts) == (body, after)


@given(wire=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_chunked_garbage_is_refused_or_waits_the_same_however_it_is_cut(
    wire: bytes, cuts: list[int]
) -> None:
    """Fuzz: BadBody, or not ended yet, or ended; the same for one piece and for many."""

    def outcome(cut: list[int]) -> object:
        try:
            return feed_cut(ChunkedBody(trailers=False), wire, cut)
        except BadBody:
            return "bad"
        except AssertionError:
            return "waits"

    assume(wire)
    assert outcome([]) == outcome(cuts)


def test_trailers_of_an_answer_are_dropped_and_of_a_request_refused() -> None:
    """A trailer would come after every decision was made."""
    wire = chunk(b"abc") + b"0\r\nX-User: admin\r\nB: c\r\n\r\nnext"
    for cut in range(len(wire)):
        assert feed_cut(ChunkedBody(trailers=True), wire, [cut]) == (b"abc", b"next")
        with pytest.raises(BadBody):
            feed_cut(ChunkedBody(trailers=False), wire, [cut])


@pytest.mark.parametrize("wire", [b"3;" + b"a" * 300, b"0\r\n" + b"A: b\r\n" * 1000])
def test_endless_chunk_lines_and_trailers_are_refused(wire: bytes) -> None:
    """Nothing that never ends is kept."""
    with pytest.raises(BadBody):
        ChunkedBody(trailers=True).feed(wire)
