"""Claims about addresses and passwords (pure)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month6_capstone.identity.credentials import normalize_email, normalize_password
from scalelab.errors import InvalidInput


@pytest.mark.parametrize(
    "raw", ["demo@example.com", "Demo@Example.COM", "  demo@example.com\n", "DEMO@EXAMPLE.COM"]
)
def test_spellings_of_one_address_are_one_account(raw: str) -> None:
    """C1: case and surrounding blanks do not make a second person."""
    assert normalize_email(raw) == "demo@example.com"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "demo",
        "@example.com",
        "demo@",
        "demo@localhost",
        "a@b@example.com",
        "demo@example..com",
        ".demo@example.com",
        "demo@-example.com",
        "demo @example.com",
        "demo@example.com\nBcc: x@example.com",
        "dämo@example.com",
        "\u212aelvin@example.com\u0000",
        "x" * 65 + "@example.com",
        "demo@" + "x" * 64 + ".com",
        "demo@" + "x." * 130 + "com",
    ],
)
def test_what_is_no_address_is_refused_by_field(raw: str) -> None:
    """Header injection, look-alike letters and over-long parts included."""
    with pytest.raises(InvalidInput) as caught:
        normalize_email(raw)
    assert caught.value.field == "email"


@given(raw=st.text(max_size=300))
def test_any_text_is_an_ascii_address_or_refused(raw: str) -> None:
    """C2: what passes fits the table's checks."""
    try:
        email = normalize_email(raw)
    except InvalidInput:
        return
    assert email.isascii()
    assert email == email.lower()
    assert len(email) <= 254


@pytest.mark.parametrize("raw", ["", "1234567", "x" * 129])
def test_a_password_outside_8_to_128_characters_is_refused(raw: str) -> None:
    """C2: the hasher's time is bounded."""
    with pytest.raises(InvalidInput) as caught:
        normalize_password(raw)
    assert caught.value.field == "password"


def test_a_composed_and_a_decomposed_letter_are_the_same_password() -> None:
    """Two keyboards, one person."""
    assert normalize_password("caf\u00e9-1234") == normalize_password("cafe\u0301-1234")
