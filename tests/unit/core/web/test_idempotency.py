"""Idempotency keys, as far as no database is needed."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, Response
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import InvalidInput, InvariantBroken
from scalelab.web.idempotency import Scope, StoredAnswer, fingerprint, parse_key
from scalelab.web.idempotency_http import IdempotencyKey, answer_response
from scalelab.web.idempotency_postgres import lock_id
from tests.unit.core.web.asgi_harness import bench, call

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@given(visible, st.sampled_from(["", " ", "\t", "  "]))
def test_visible_ascii_is_a_key_without_the_space_around_it(key: str, space: str) -> None:
    """1 to 255 characters, taken as they are."""
    assert parse_key(f"{space}{key}{space}") == key


@given(st.text())
def test_any_text_is_a_key_or_a_stable_code(raw: str) -> None:
    """Nothing else comes out, whatever goes in."""
    refused = None
    try:
        key = parse_key(raw)
    except InvalidInput as error:
        refused = error.stable_code
    else:
        assert key.isascii()
        assert 1 <= len(key) <= 255
    assert refused in (None, "idempotency_key_missing", "idempotency_key_invalid")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (None, "idempotency_key_missing"),
        ("", "idempotency_key_missing"),
        ("  ", "idempotency_key_missing"),
        ("a b", "idempotency_key_invalid"),
        ("a\nb", "idempotency_key_invalid"),
        ("\u00e9", "idempotency_key_invalid"),
        ("k" * 256, "idempotency_key_invalid"),
    ],
)
def test_missing_and_invalid_keys_are_told_apart(raw: str | None, code: str) -> None:
    """Both are 400, with a code each."""
    with pytest.raises(InvalidInput) as caught:
        parse_key(raw)
    assert caught.value.stable_code == code


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_scopes_share_a_lock_only_if_they_are_equal(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    """Moving a character from user to route must not meet another user's key."""
    first, second = lock_id(Scope(*one)), lock_id(Scope(*two))
    assert (first == second) == (one == two)
    assert -(2**63) <= first < 2**63


def test_lock_of_neighbouring_texts_differs() -> None:
    """The case a plain join would get wrong."""
    assert lock_id(Scope("ab", "c", "d")) != lock_id(Scope("a", "bc", "d"))
    assert lock_id(Scope("a", "b:1", "d")) != lock_id(Scope("a", "b", "1:d"))


@pytest.mark.parametrize("status", [100, 199, 500, 503])
def test_answers_that_are_not_final_cannot_be_stored(status: int) -> None:
    """A transient failure kept for ever would make the retry useless (K2)."""
    with pytest.raises(InvariantBroken):
        StoredAnswer(status)


def test_fingerprint_is_of_the_octets() -> None:
    """Same JSON, other spelling: another request, and that is said in the documentation."""
    assert fingerprint(b'{"a":1}') == fingerprint(b'{"a":1}')
    assert fingerprint(b'{"a":1}') != fingerprint(b'{"a": 1}')
    assert len(fingerprint(b"")) == 32


async def test_route_demands_the_header_and_replays_byte_for_byte() -> None:
    """400 with its code when missing; the replay differs by one header only."""
    router = APIRouter()
    stored = StoredAnswer(202, {"location": "/orders/7"}, b'{"order_id":"7"}')

    @router.post("/orders", response_model=None)
    async def create(key: IdempotencyKey) -> Response:
        return answer_response(stored, replayed=key == "again")

    it = bench(router)
    missing = await call(it.app, "POST", "/orders")
    assert (missing.status, missing.json["code"]) == (400, "idempotency_key_missing")
    sane, header = "idempotency-key", "idempotency-replayed"
    first = await call(it.app, "POST", "/orders", headers=[(sane, "first")])
    again = await call(it.app, "POST", "/orders", headers=[(sane, "again")])
    assert (first.status, first.body, first.headers["location"]) == (202, stored.body, "/orders/7")
    assert (again.status, again.body, again.headers["location"]) == (202, stored.body, "/orders/7")
    assert header not in first.headers
    assert again.headers[header] == "true"
