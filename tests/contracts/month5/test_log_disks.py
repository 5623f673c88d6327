"""One suite for both disks: the file system and the one in memory that tests break."""

from __future__ import annotations

from pathlib import Path

import pytest

from month5_kvstore.log import Disk, MemoryDisk, PosixDisk


@pytest.fixture(params=["posix", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return PosixDisk(tmp_path / "log") if request.param == "posix" else MemoryDisk()


def test_what_is_appended_is_read(disk: Disk) -> None:
    file = disk.create("a")
    assert file.write(b"one") == 3
    assert file.write(b"two") == 3
    file.sync()
    file.close()
    assert disk.read("a") == b"onetwo"


def test_a_file_is_made_once(disk: Disk) -> None:
    disk.create("a").close()
    with pytest.raises(FileExistsError):
        disk.create("a")


def test_an_existing_file_is_appended_to_at_its_end_also_after_a_cut(disk: Disk) -> None:
    file = disk.create("a")
    file.write(b"onetwo")
    file.close()
    again = disk.append_to("a")
    again.truncate(3)
    again.write(b"!")
    again.rewrite(0, b"one")
    again.write(b"?")
    again.sync()
    again.close()
    assert disk.read("a") == b"one!?"


def test_names_are_sorted_and_follow_renames_and_removals(disk: Disk) -> None:
    for name in ("c", "a", "b"):
        disk.create(name).close()
    disk.rename("c", "a")
    disk.remove("b")
    disk.sync_folder()
    assert disk.names() == ["a"]


def test_what_is_not_there_is_an_error(disk: Disk) -> None:
    for attempt in (
        lambda: disk.read("a"),
        lambda: disk.append_to("a"),
        lambda: disk.remove("a"),
        lambda: disk.rename("a", "b"),
    ):
        with pytest.raises(FileNotFoundError):
            attempt()


def test_the_lock_is_held_by_one_and_let_go(disk: Disk) -> None:
    release = disk.lock("lock")
    with pytest.raises(BlockingIOError):
        disk.lock("lock")
    release()
    disk.lock("lock")()
