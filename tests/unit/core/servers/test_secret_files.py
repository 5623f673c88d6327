"""Secrets: made once, one answer for everybody, closed to others."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scalelab.errors import InvalidInput
from scalelab.lab.servers.secret_files import SecretFiles


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """The same text from another object over the same folder; modes 0600 and 0700."""
    secret = SecretFiles(tmp_path / "secrets").get("orders.password")
    again = SecretFiles(tmp_path / "secrets")
    assert again.get("orders.password") == secret
    assert again.get("other") != secret
    assert len(secret) == 32
    assert stat.S_IMODE(again.path("orders.password").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700


def test_everybody_who_asks_first_gets_the_same_secret(tmp_path: Path) -> None:
    """Sixteen objects race for a new name; nothing but the secret is left in the folder."""
    makers = [SecretFiles(tmp_path) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(lambda maker: maker.get("raced"), makers))
    assert len(answers) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["raced"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 90])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    """Names become file names, so they are checked first."""
    with pytest.raises(InvalidInput):
        SecretFiles(tmp_path).get(name)
