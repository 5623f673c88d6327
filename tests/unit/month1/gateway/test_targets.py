"""One spelling of a path, or a refusal."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.gateway.admission import client_ip
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.gateway.targets import parse_target

pieces = st.sampled_from(
    b"/ a . .. %2e %2F %61 % %zz ; \\ %25 ~ ? # %c3%a9 %c0%af @ %2E%2e ..;".split(b" ")
)


@given(st.lists(pieces, max_size=12).map(b"".join))
def test_an_accepted_path_is_its_own_normal_form(raw: bytes) -> None:
    """Normalising twice is normalising once, and no reader finds dots or slashes hidden in it."""
    try:
        target = parse_target(raw)
    except Refused:
        return
    assert parse_target(target.wire()) == target
    path = target.path.encode()
    for view in (path, unquote_to_bytes(path), unquote_to_bytes(unquote_to_bytes(path))):
        assert b"//" not in view
        assert view.count(b"/") == path.count(b"/")
        assert not {b".", b".."} & set(view.split(b"/"))
    assert target.path == "/" + "/".join(target.segments)


@pytest.mark.parametrize(
    "raw", [b"", b"*", b"a", b"http://h/", b"//", b"/a?b#c", b"/a?\x80", b"/\x80"]
)
def test_what_is_no_path_is_refused(raw: bytes) -> None:
    """Origin-form only."""
    with pytest.raises(Refused):
        parse_target(raw)


@pytest.mark.parametrize(
    ("peer", "header", "caller"),
    [
        ("9.9.9.9", b"1.1.1.1", "9.9.9.9"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", b"1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", b"6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", b"1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", b"1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", b"2001:db8::1", "2001:db8::1"),
    ],
)
def test_only_trusted_hops_say_who_the_caller_is(peer: str, header: bytes, caller: str) -> None:
    """Read from the right, up to the first address that is not trusted."""
    assert client_ip(peer, header, frozenset({"10.0.0.1", "10.0.0.2"})) == caller
