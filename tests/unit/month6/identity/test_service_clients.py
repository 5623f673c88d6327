"""Claims about registered clients and their secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from month6_capstone.identity.service_clients import (
    authenticate,
    grant_scopes,
    read_clients,
    register_client,
    write_clients,
)
from scalelab.errors import CorruptData, InvalidInput, Unauthenticated

ORDERS = register_client("orders", "s3cret-of-orders", ["internal"])


def test_what_is_written_is_read_and_holds_no_secret(tmp_path: Path) -> None:
    """The file carries digests only, and only its owner may read it."""
    path = tmp_path / "identity" / "clients.json"
    write_clients(path, [ORDERS])
    assert read_clients(path) == {"orders": ORDERS}
    assert "s3cret" not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_the_right_secret_names_the_client() -> None:
    """The client is known by its secret."""
    assert authenticate({"orders": ORDERS}, "orders", "s3cret-of-orders") == ORDERS


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("orders", "wrong"),
        ("orders", ""),
        ("nobody", "s3cret-of-orders"),
        ("", ""),
        ("orders", "é"),
    ],
)
def test_unknown_client_and_wrong_secret_are_one_answer(client_id: str, secret: str) -> None:
    """Nobody learns which client ids exist."""
    with pytest.raises(Unauthenticated) as caught:
        authenticate({"orders": ORDERS}, client_id, secret)
    assert caught.value.stable_code == "invalid_client"


def test_a_client_gets_no_scope_it_does_not_have() -> None:
    """Asking for more is an error, not a smaller token."""
    with pytest.raises(InvalidInput) as caught:
        grant_scopes(ORDERS, "internal admin")
    assert caught.value.stable_code == "invalid_scope"


def test_a_client_that_names_no_scope_gets_its_own() -> None:
    """RFC 6749 section 3.3 leaves the default to the server; ours is all registered scopes."""
    assert grant_scopes(ORDERS, None) == {"internal"}
    assert grant_scopes(ORDERS, "internal") == {"internal"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        json.dumps({"clients": [{"client_id": "a", "secret_sha256": "x", "scopes": []}]}),
        json.dumps({"clients": [{"client_id": "a", "secret": "plain", "scopes": []}]}),
    ],
)
def test_a_file_of_another_shape_is_named_in_the_error(tmp_path: Path, content: str) -> None:
    """Whoever starts the service reads which file is wrong."""
    path = tmp_path / "clients.json"
    path.write_text(content)
    with pytest.raises(CorruptData, match=r"clients\.json"):
        read_clients(path)


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    """The same for a file that is not there."""
    with pytest.raises(CorruptData, match=r"absent\.json"):
        read_clients(tmp_path / "absent.json")
