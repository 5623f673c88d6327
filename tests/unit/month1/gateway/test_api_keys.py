"""API keys: who is let in by which text, and what a key file must be."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.gateway.api_keys import (
    ApiKey,
    KeyRing,
    digest_of,
    in_query,
    key_text,
)
from month1_caching_gateway.gateway.key_file import KeyFile
from scalelab.errors import InvalidInput, Unauthenticated

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "s" * 43
TEXT = key_text("acme01", SECRET)


def ring(*, expires_at: datetime | None = None) -> KeyRing:
    return KeyRing([ApiKey("acme01", digest_of(TEXT), "acme", "pro", expires_at=expires_at)])


def code_of(keys: KeyRing, text: str | None, *, now: datetime = NOW) -> str:
    with pytest.raises(Unauthenticated) as refused:
        keys.verify(text, now=now)
    return refused.value.stable_code


def test_a_good_key_names_its_owner_and_plan() -> None:
    """K1."""
    key = ring().verify(TEXT, now=NOW)
    assert (key.key_id, key.owner, key.plan) == ("acme01", "acme", "pro")


@pytest.mark.parametrize(
    "text", [key_text("acme01", "t" * 43), key_text("acme02", SECRET), TEXT + "s"]
)
def test_a_wrong_secret_and_an_unknown_id_are_one_answer(text: str) -> None:
    """K2: who guesses learns nothing about which ids exist."""
    assert code_of(ring(), text) == "key_invalid"


@pytest.mark.parametrize(
    "text",
    ["x", "slk_acme01_short", "slk__" + SECRET, TEXT + "\n", " " + TEXT, "slk_ACME01_" + SECRET],
)
def test_what_is_no_key_is_malformed(text: str) -> None:
    """Nothing is hashed that could not be a key."""
    assert code_of(ring(), text) == "key_malformed"


@given(text=st.text(max_size=80))
def test_no_other_text_is_a_key(text: str) -> None:
    """K1 for any text."""
    assert code_of(ring(), text) in ("key_missing", "key_malformed", "key_invalid")


def test_a_key_expires_at_its_instant() -> None:
    """Good before, refused from then on."""
    keys = ring(expires_at=NOW)
    assert keys.verify(TEXT, now=NOW - timedelta(microseconds=1)).key_id == "acme01"
    assert code_of(keys, TEXT, now=NOW) == "key_expired"


def test_a_record_holds_no_secret() -> None:
    """K3: what is kept cannot be shown as a key."""
    assert SECRET not in repr(ring().verify(TEXT, now=NOW))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"api_key=1", True),
        (b"a=1&apikey=x", True),
        (b"a=1&X-API-KEY=x", True),
        (b"access_token=x", True),
        (b"q=" + TEXT.encode(), True),
        (b"page=2&my_api_keys=1", False),
        (b"key=1", False),
        (b"", False),
        (None, False),
    ],
)
def test_a_credential_in_a_query_is_seen(query: bytes | None, *, found: bool) -> None:
    """By its name or by its shape."""
    assert in_query(query) is found


def written(folder: Path, *, mode: int = 0o600, text: str | None = None) -> Path:
    path = folder / "keys.json"
    entry = {"id": "acme01", "sha256": digest_of(TEXT).hex(), "owner": "acme", "plan": "pro"}
    path.write_text(json.dumps({"keys": [entry]}) if text is None else text)
    path.chmod(mode)
    return path


def test_a_key_file_is_read(tmp_path: Path) -> None:
    """Digest in, owner out."""
    assert KeyFile(written(tmp_path)).ring.verify(TEXT, now=NOW).owner == "acme"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o777])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever may write it may let himself in."""
    with pytest.raises(InvalidInput, match="mode"):
        KeyFile(written(tmp_path, mode=mode))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"keys": [{"id": "acme01"}]}',
        '{"keys": [{"id": "acme01", "sha256": "00", "owner": "a"}]}',
        '{"keys": [], "extra": 1}',
        json.dumps({"keys": [{"id": "A!", "sha256": "0" * 64, "owner": "a"}]}),
        json.dumps({"keys": [{"id": "acme01", "sha256": "0" * 64, "owner": "a"}] * 2}),
    ],
)
def test_a_key_file_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    """A misspelt field, a short digest, an id twice: an error that says so."""
    with pytest.raises(InvalidInput):
        KeyFile(written(tmp_path, text=text))


def test_an_error_does_not_repeat_a_secret(tmp_path: Path) -> None:
    """A whole key put in the digest's place must not reach a log."""
    text = json.dumps({"keys": [{"id": "acme01", "sha256": TEXT, "owner": "a"}]})
    with pytest.raises(InvalidInput) as wrong:
        KeyFile(written(tmp_path, text=text))
    assert SECRET not in str(wrong.value)


def test_a_broken_file_leaves_the_keys_in_hand(tmp_path: Path) -> None:
    """Reload is all or nothing."""
    path = written(tmp_path)
    keys = KeyFile(path)
    assert keys.changed() is None
    path.write_text("{")
    assert keys.changed() is not None
    with pytest.raises(InvalidInput):
        keys.reload()
    assert keys.ring.verify(TEXT, now=NOW).owner == "acme"
    path.write_text('{"keys": []}')
    keys.reload()
    assert keys.changed() is None
    assert len(keys.ring) == 0
