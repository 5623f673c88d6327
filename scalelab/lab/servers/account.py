"""Who runs the servers, and which folders that account can reach.

Rule: started by root, every server runs as the unprivileged account 65534 (`nobody`), because
PostgreSQL refuses root and no other server needs it. Started by anybody else, servers run as that
user. A dropped account must be able to walk down to its data, which it cannot in a clone under
`/root`; then a folder in `/var/tmp`, named after user and clone, takes the clone's place.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from scalelab.lab.servers.errors import ServerFailed

_FALLBACK_PARENT = Path("/var/tmp")  # survives a reboot, unlike /tmp on many machines


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged account of the servers. PostgreSQL needs it to have a passwd entry."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """None for an ordinary user; for root the account to drop to. ServerFailed if there is none."""
    if os.geteuid() != 0:
        return None
    for lookup in (lambda: pwd.getpwuid(65534), lambda: pwd.getpwnam("nobody")):
        try:
            entry = lookup()
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ServerFailed(
        "Servers do not run as root here, and this machine has no account 65534 to drop to. "
        "Try: add `nobody` to /etc/passwd, or run as an ordinary user."
    )


def can_reach(account: Account | None, folder: Path) -> bool:
    """Whether the account may pass through `folder` (or its nearest existing parent) and above.

    Looks at mode bits only; an access list that grants more is not seen: the safe side.
    """
    if account is None:
        return True
    here = folder.absolute()
    for place in (here, *here.parents):
        try:
            mode = place.stat()
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            return False
        if mode.st_uid == account.uid:
            allowed = mode.st_mode & stat.S_IXUSR
        elif mode.st_gid == account.gid:
            allowed = mode.st_mode & stat.S_IXGRP
        else:
            allowed = mode.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def reachable(account: Account | None, folder: Path) -> Path:
    """`folder` where the account can reach it, else its stand-in under /var/tmp, made if missing.

    Raises ServerFailed if someone else made the stand-in first: names in /var/tmp can be guessed.
    """
    if account is None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if can_reach(account, folder.parent):
        _open_way(folder)
        if can_reach(account, folder):
            return folder
    folder = stand_in(folder)
    _open_way(folder)
    return folder


def _open_way(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
        raise ServerFailed(
            f"{folder} belongs to user {found.st_uid} or is no folder, so no server is started "
            f"in it. Try: remove it."
        )
    folder.chmod(stat.S_IMODE(found.st_mode) | 0o011)  # others pass through, they do not list


def stand_in(folder: Path) -> Path:
    """Where data goes that would otherwise stand in `folder`: one place per user and folder."""
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:12]
    return _FALLBACK_PARENT / f"scalelab-{os.geteuid()}-{digest}"


def hand_over(account: Account | None, path: Path) -> None:
    """Make the account the owner of `path`; nothing to do for an ordinary user."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
