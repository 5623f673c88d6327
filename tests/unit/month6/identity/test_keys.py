"""Claims about the folder of signing keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from month6_capstone.identity.keys import add_key, load_keys
from scalelab.errors import CorruptData

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_first_start_makes_one_key_and_keeps_it(tmp_path: Path) -> None:
    """Only the owner may read it; the second start signs with the same."""
    folder = tmp_path / "keys"
    first = load_keys(folder)
    assert load_keys(folder).signing.kid == first.signing.kid
    files = list(folder.iterdir())
    assert len(files) == 1
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_newest_key_signs_and_all_are_published(tmp_path: Path) -> None:
    """After a rotation tokens of the old key still verify."""
    old = load_keys(tmp_path).signing
    add_key(tmp_path, NOW)
    rotated = load_keys(tmp_path)
    assert rotated.signing.kid != old.kid
    assert [key.kid for key in rotated.published] == [old.kid, rotated.signing.kid]


def test_a_key_others_may_read_stops_the_start(tmp_path: Path) -> None:
    """A leaked key is not used quietly."""
    load_keys(tmp_path)
    next(tmp_path.iterdir()).chmod(0o644)
    with pytest.raises(CorruptData, match="chmod 600"):
        load_keys(tmp_path)


def test_a_file_that_is_no_key_stops_the_start(tmp_path: Path) -> None:
    """It is named, so a person can look."""
    path = add_key(tmp_path, NOW)
    path.write_text("not a key")
    with pytest.raises(CorruptData, match=path.name):
        load_keys(tmp_path)
