"""Logs of child processes: bounded while the child runs, without its help.

A child writes to a descriptor opened for appending, so its next line goes to wherever the file
ends by then. A log that has grown past the limit is therefore copied to `NAME.log.1`, which it
replaces, and emptied in place. What is written between the copy and the emptying is lost: a price
that a log may pay and data may not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Generator
from io import BufferedWriter
from pathlib import Path

LIMIT_BYTES = 16 * 1024 * 1024
"""A log may grow this large; with its one older generation it takes twice that."""


@contextlib.contextmanager
def opened(path: Path) -> Generator[BufferedWriter]:
    """Open for appending and note who starts something now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} started by {os.getpid()}\n".encode())
        file.flush()
        yield file


def keep_small(
    folder: Path, *, limit_bytes: int = LIMIT_BYTES, pattern: str = "*.log"
) -> list[Path]:
    """Put aside every log of the folder that has outgrown the limit; returns those. Repeatable.

    Cost: one stat a log, and a copy of at most a little more than the limit where one is due. A
    log that cannot be copied stays as it is: a full disk is not made fuller.
    """
    cut: list[Path] = []
    for log in folder.glob(pattern):
        older = log.with_suffix(".log.1")
        try:
            if log.stat().st_size <= limit_bytes:
                continue
            shutil.copyfile(log, older)
            os.truncate(log, 0)
        except OSError:
            continue
        cut.append(log)
    return cut
