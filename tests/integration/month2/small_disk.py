"""File systems so small that they can be filled."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scalelab.lab.servers.account import server_account


@contextmanager
def small_disks(root: Path) -> Generator[Callable[[int], Path]]:
    """`mount(mib)` makes one below `root` that belongs to the servers' account."""
    made: list[Path] = []

    def mount(mib: int) -> Path:
        account = server_account()
        if account is None:
            pytest.skip("not run: only root may mount a small file system")
        folder = root / f"small-{uuid.uuid4().hex[:8]}"
        folder.mkdir(mode=0o700)
        options = f"size={mib}m,mode=0700,uid={account.uid},gid={account.gid}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)],
            capture_output=True,
            check=False,
            timeout=20,
        )
        if done.returncode != 0:
            pytest.skip("not run: this machine lets nobody mount a small file system")
        made.append(folder)
        return folder

    try:
        yield mount
    finally:
        for folder in made:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


def fill_up(folder: Path, *, leave_bytes: int) -> Path:
    """A file that takes all the room of a disk but this; remove it to have the room back."""
    free = os.statvfs(folder)
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave_bytes)
    return ballast
