"""Runs: one folder below `.lab/runs` for each demo, experiment or bench, with servers of its own.

A command holds its folder (a lock that ends with the process) while the servers in it live, so
that other commands know an open shop from the remains of an old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Generator, Iterable
from pathlib import Path

LOCK = "open.lock"


def folder_of_runs(root: Path) -> Path:
    """Where the runs of this clone stand."""
    return root / ".lab" / "runs"


def new_run(root: Path, name: str) -> Path:
    """A new, empty folder named `name`, with a number behind it if that name is taken."""
    number = 0
    while True:
        folder = folder_of_runs(root) / (f"{name}-{number}" if number else name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


@contextlib.contextmanager
def held(folder: Path) -> Generator[None]:
    """Hold a run while its servers live; the lock file names the process that does."""
    with (folder / LOCK).open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def holder_of(folder: Path) -> int | None:
    """Pid of the living process that holds the run, or None."""
    try:
        with (folder / LOCK).open("r", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(handle.read() or 0)
    except (OSError, ValueError):
        pass
    return None


def runs(root: Path) -> list[Path]:
    """Every run of this clone, the one in which something was made last first."""
    folder = folder_of_runs(root)
    found = [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    return sorted(found, key=lambda run: run.stat().st_mtime_ns, reverse=True)


def open_runs(root: Path) -> list[Path]:
    """The runs whose servers live, in the same order."""
    return [run for run in runs(root) if holder_of(run) is not None]


def discard(folder: Path, *, keep: Iterable[str] = ()) -> None:
    """Remove what a run made, its servers' data included, but for the names in `keep`.

    Nothing may run in it any more. The folder itself goes too if nothing is kept.
    """
    from scalelab.lab.runtime import remove_data

    remove_data(folder)
    kept = set(keep)
    for entry in folder.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not kept:
        folder.rmdir()
