"""The one interface of both backup tools, and what they need to know of a server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from month2_databases.backup.recovery_target import SEALED_OFF, BackupRecord, Target


@dataclass(frozen=True, slots=True)
class Owner:
    """The account that runs PostgreSQL, where it is not the one that runs the tool."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data folder that a server can be started in, and what it must show when it is open.

    settings: beside the server's own. at_least_lsn: for `check_reached`. wal: staged segments.
    """

    data: Path
    backup: BackupRecord
    target: Target
    settings: Mapping[str, str]
    at_least_lsn: int
    wal: Path | None = None


class BackupTool(Protocol):
    """What both tools do. Every call is synchronous, bounded by a deadline, and repeatable."""

    def archive_settings(self) -> dict[str, str]:
        """What the server must be told so that its log reaches the repository."""
        ...

    def backup(self) -> BackupRecord:
        """Take a full backup of the running server; it is there when the call returns."""
        ...

    def backups(self) -> list[BackupRecord]:
        """All whole backups, the oldest first."""
        ...

    def restore(self, target: Target, into: Path) -> Prepared:
        """Fill the folder `into`, which must not exist, for a server that stops at `target`."""
        ...

    def verify(self) -> int:
        """Read everything again; the number of files that are right. Raises CorruptData."""
        ...


def seal_off(data: Path, settings: Mapping[str, str]) -> None:
    """Make a restored folder forget its original's role, and recover by `settings`.

    postgresql.auto.conf is where ALTER SYSTEM wrote the original's, and it outranks
    postgresql.conf; its last line of a name counts.
    """
    lines = [f"{name} = '{_quoted(value)}'\n" for name, value in {**settings, **SEALED_OFF}.items()]
    with (data / "postgresql.auto.conf").open("a") as file:
        file.writelines(["# A copy: written by the restore.\n", *lines])
    (data / "standby.signal").unlink(missing_ok=True)
    (data / "recovery.signal").touch()


def hand_over(path: Path, owner: Owner | None) -> None:
    """Make a folder and all in it the server's account's; nothing without one."""
    if owner is None:
        return
    os.chown(path, owner.uid, owner.gid)
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), owner.uid, owner.gid, follow_symlinks=False)


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder."""
    return shutil.disk_usage(folder).free


def _quoted(value: str) -> str:
    return value.replace("'", "''")
