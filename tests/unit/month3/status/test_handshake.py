"""What may become a WebSocket, whoever asks."""

from __future__ import annotations

import pytest

from month3_messaging.status import PATH, SUBPROTOCOL
from month3_messaging.status.handshake import (
    HEAD_LIMIT,
    HeadReader,
    Upgrade,
    accept,
    read_upgrade,
    refuse,
)
from scalelab.errors import InvalidInput, RateLimited, ScalelabError, TooLarge

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    "Host": "localhost",
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def head(path: str = PATH, method: str = "GET", **changed: str | None) -> bytes:
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


def upgrade(data: bytes, origins: frozenset[str] = frozenset()) -> Upgrade:
    reader = HeadReader()
    rest = reader.feed(data)
    assert rest == b""
    return read_upgrade(reader, origins=origins)


def test_a_token_comes_in_the_header_or_as_a_subprotocol() -> None:
    """Browsers can only do the second; what carries the token is never echoed."""
    assert upgrade(head(Authorization="Bearer abc")) == Upgrade(KEY, "abc", None)
    offered = upgrade(head(Sec_WebSocket_Protocol=f"{SUBPROTOCOL}, bearer.abc"))
    assert offered == Upgrade(KEY, "abc", SUBPROTOCOL)
    answer = accept(offered)
    assert f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode() in answer
    assert b"abc" not in answer


def test_a_head_may_come_byte_by_byte_and_have_bytes_behind_it() -> None:
    """What is behind the empty line is no part of it."""
    reader = HeadReader()
    stream = head() + b"\x81"
    rest = [reader.feed(stream[i : i + 1]) for i in range(len(stream) - 1)]
    assert rest[:-1] == [None] * (len(stream) - 2)
    assert rest[-1] == b""
    assert HeadReader().feed(stream) == b"\x81"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (head(Upgrade=None, Connection="close"), "upgrade_required"),
        (head(Upgrade="h2c"), "upgrade_required"),
        (head(Sec_WebSocket_Version="8"), "upgrade_required"),
        (head(Sec_WebSocket_Key="c2hvcnQ="), "invalid_input"),
        (head(Sec_WebSocket_Key=None), "invalid_input"),
        (head(path="/elsewhere"), "not_found"),
        (head(Origin="https://evil.test"), "origin_refused"),
        (b"\x16\x03\x01\x02\x00", "malformed_request"),
    ],
)
def test_what_is_no_request_for_an_upgrade_is_refused(data: bytes, code: str) -> None:
    """With a stable code."""
    with pytest.raises(ScalelabError) as raised:
        upgrade(data, frozenset({"https://shop.test"}))
    assert raised.value.stable_code == code


def test_a_named_origin_may_connect() -> None:
    """And only that one."""
    assert upgrade(head(Origin="https://shop.test"), frozenset({"https://shop.test"}))


def test_a_head_is_bounded() -> None:
    """A caller that sends headers for ever is stopped."""
    reader = HeadReader()
    reader.feed(b"GET / HTTP/1.1\r\nA: ")
    for _ in range(HEAD_LIMIT // 1024 - 1):
        reader.feed(b"x" * 1024)
    with pytest.raises(TooLarge):
        reader.feed(b"x" * 1024)


def test_a_refusal_is_a_problem_document() -> None:
    """With the status and the headers that HTTP has for it."""
    answer = refuse(RateLimited("too many", code="too_many_streams", retry_after_s=3), "/x\r\ny")
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 3\r\n" in answer
    assert b'"code":"too_many_streams"' in answer
    assert refuse(InvalidInput("no", code="upgrade_required"), "/").startswith(b"HTTP/1.1 426 ")
