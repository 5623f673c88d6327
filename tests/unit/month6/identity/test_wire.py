"""Claims about the token endpoint's form and about a caller's address (pure)."""

from __future__ import annotations

import base64
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.identity.client_address import client_address
from month6_capstone.identity.wire import read_token_request
from scalelab.errors import InvalidInput, ScalelabError, Unauthenticated

PROXIES = frozenset({"127.0.0.1", "10.0.0.9"})


def basic(client_id: str, secret: str) -> str:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


@given(secret=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_both_ways_to_name_the_client_say_the_same(secret: str) -> None:
    """RFC 6749 section 2.3.1: form-encoded before Basic, or in the form itself."""
    in_header = read_token_request(b"grant_type=client_credentials", basic("orders", secret))
    form = f"grant_type=client_credentials&client_id=orders&client_secret={quote_plus(secret)}"
    in_form = read_token_request(form.encode(), None)
    assert in_header == in_form
    assert (in_form.client_id, in_form.client_secret) == ("orders", secret)


@pytest.mark.parametrize(
    ("body", "authorization", "code"),
    [
        (b"", None, "invalid_request"),
        (b"grant_type=password&username=a&password=b", None, "unsupported_grant_type"),
        (b"grant_type=client_credentials&grant_type=x", None, "invalid_request"),
        (b"grant_type=client_credentials&client_id=a", "Basic YTpi", "invalid_request"),
        (b"grant_type=client_credentials&client_id=%ff", None, "invalid_request"),
        ("grant_type=client_credentials&client_id=é".encode(), None, "invalid_request"),
        (b"&".join(b"a%d=1" % n for n in range(30)), None, "invalid_request"),
    ],
)
def test_a_form_that_breaks_a_rule_names_which(
    body: bytes, authorization: str | None, code: str
) -> None:
    """Each with the error code of RFC 6749 section 5.2."""
    with pytest.raises(InvalidInput) as caught:
        read_token_request(body, authorization)
    assert caught.value.stable_code == code


@pytest.mark.parametrize("header", ["Bearer abc", "Basic", "Basic !!!", "Basic /w==", "", "é"])
def test_an_authorization_that_is_not_basic_is_an_invalid_client(header: str) -> None:
    """The client did not authenticate; nothing else is said."""
    with pytest.raises(Unauthenticated) as caught:
        read_token_request(b"grant_type=client_credentials", header)
    assert caught.value.stable_code == "invalid_client"


@given(body=st.binary(max_size=80), header=st.none() | st.text(max_size=40))
def test_no_input_leads_to_an_error_of_another_kind(body: bytes, header: str | None) -> None:
    """Any bytes are a request or a refusal."""
    try:
        read_token_request(body, header)
    except ScalelabError:
        return


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("198.51.100.7", None, "198.51.100.7"),
        ("198.51.100.7", "203.0.113.1", "198.51.100.7"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "203.0.113.1", "203.0.113.1"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.1", "203.0.113.1"),
        ("127.0.0.1", "203.0.113.1, 10.0.0.9", "203.0.113.1"),
        ("127.0.0.1", "127.0.0.1, 10.0.0.9", "127.0.0.1"),
        ("127.0.0.1", "nonsense", "unknown"),
        ("127.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", None, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.1", None, "203.0.113.1"),
        (None, None, "unknown"),
    ],
)
def test_only_what_a_trusted_proxy_added_is_believed(
    peer: str | None, forwarded_for: str | None, expected: str
) -> None:
    """A caller cannot name its own address, and owns one /64, not 2**64 addresses."""
    assert client_address(peer, forwarded_for, PROXIES) == expected
