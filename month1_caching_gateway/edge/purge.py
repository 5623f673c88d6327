"""Take answers out of an edge's cache before their time: by address, or all below a prefix.

Theory of operation
    nginx keeps an answer in a file and writes the key into its head. Deleting the file is enough:
    nginx finds that it is gone and asks the origin. The variants of one address (`Vary`) stand in
    files of their own under the same key, so the files are searched, not computed.

Guarantees and limits
    When `purge` returns, no answer that stood there is served again. An answer that was already on
    its way from the origin may still be stored after it: whoever must be sure purges once more
    after the origin's read time-out, or starts the edge with a higher `generation`.
    Doing it twice is the same as doing it once. Cost: one short read per kept answer.

Source: the head's layout is that of nginx 1.18 to 1.28 (a fixed part, then a line `KEY: …`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scalelab.errors import InvalidInput

_FILE = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(rb"\nKEY: g(\d+) (\S+) (\S+)\n")
_HEAD_BYTES = 16 * 1024
_TARGET = re.compile(r"/[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept answer. target: path and query as the client sent them."""

    path: Path
    host: str
    target: str


def kept(cache: Path) -> Iterator[Kept]:
    """Every answer in a cache folder, in no order; what vanishes meanwhile is left out."""
    for path in cache.glob("*/*/*"):
        if not _FILE.fullmatch(path.name):
            continue  # still being written
        try:
            with path.open("rb") as file:
                found = _KEY.search(file.read(_HEAD_BYTES))
        except FileNotFoundError:
            continue
        if found is not None:
            yield Kept(path, found.group(2).decode("latin-1"), found.group(3).decode("latin-1"))


def purge(cache: Path, target: str, *, prefix: bool = False) -> int:
    """Remove every variant of `target` (or of all that begin with it); how many there were.

    Raises InvalidInput unless target is a path, with or without a query, as a client sends it.
    """
    if not _TARGET.fullmatch(target):
        raise InvalidInput(f"{target!r} is no request target", field="target")
    removed = 0
    for one in kept(cache):
        if one.target == target or (prefix and one.target.startswith(target)):
            with contextlib.suppress(FileNotFoundError):
                one.path.unlink()
                removed += 1
    return removed
