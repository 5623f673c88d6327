"""What a dropped account can reach, and where data goes when it cannot."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelab.lab.servers import ServerFailed, stand_in
from scalelab.lab.servers.account import Account, can_reach, reachable

NOBODY = Account(65534, 65534)


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """A folder whose parents others may pass, as far as this test run made them."""
    opened: list[tuple[Path, int]] = []
    for folder in (tmp_path, *tmp_path.parents):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & 0o001 and folder.stat().st_uid == os.geteuid():
            opened.append((folder, mode))
            folder.chmod(mode | 0o001)
    yield tmp_path
    for folder, mode in opened:
        folder.chmod(mode)


def test_an_ordinary_user_reaches_its_own_folders(tmp_path: Path) -> None:
    """Nothing is dropped, nothing moves, modes stay as they are."""
    folder = tmp_path / "closed" / "data"
    folder.parent.mkdir(mode=0o700)
    assert reachable(None, folder) == folder
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_a_closed_parent_is_noticed(top: Path) -> None:
    """One folder without the bit to pass is enough, however deep the missing rest."""
    closed = top / "closed"
    closed.mkdir(mode=0o700)
    assert can_reach(NOBODY, top / "not" / "yet")
    assert not can_reach(NOBODY, closed / "a" / "b")


def test_a_reachable_folder_is_opened_to_pass_not_to_list(top: Path) -> None:
    """Our own folder gets the bits to pass through, and no more."""
    folder = top / "data"
    folder.mkdir(mode=0o700)
    assert reachable(NOBODY, folder) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711


def test_an_unreachable_folder_moves_to_a_stable_place(top: Path) -> None:
    """The same folder always gets the same stand-in, another folder another one."""
    closed = top / "closed"
    closed.mkdir(mode=0o700)
    moved = reachable(NOBODY, closed / "data")
    try:
        assert moved == stand_in(closed / "data") != stand_in(closed / "other")
        assert can_reach(NOBODY, moved)
    finally:
        moved.rmdir()


def test_a_stand_in_that_is_a_link_is_refused(top: Path) -> None:
    """Names in /var/tmp can be guessed, so what stands there is looked at before it is used."""
    closed = top / "closed"
    closed.mkdir(mode=0o700)
    place = stand_in(closed / "data")
    place.symlink_to(top)
    try:
        with pytest.raises(ServerFailed, match="remove it"):
            reachable(NOBODY, closed / "data")
    finally:
        place.unlink()
