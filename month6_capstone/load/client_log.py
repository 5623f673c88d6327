"""The client's own record of what it was told: one JSON line an attempt.

This is the only witness that does not belong to the system under test, so `verify` starts from
it. An attempt ends as `accepted` (202 seen), `refused` (a definite no), or `unknown` (no answer:
there may be one order or none, never two).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Literal

Outcome = Literal["accepted", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request for an order. at: ISO instant in UTC; attempt: 1-based; status: HTTP or null."""

    at: str
    user_id: str
    key: str
    attempt: int
    outcome: Outcome
    status: int | None
    order_id: str | None
    body_sha: str


def body_sha(body: bytes) -> str:
    """The digest under which a log line names its request's body."""
    return hashlib.sha256(body).hexdigest()


class ClientLog:
    """Append-only; a line is flushed before `write` returns. Context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> ClientLog:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, attempt: Attempt) -> None:
        """Append one line. Call only inside the context."""
        assert self._file is not None, "open the log first"
        self._file.write(json.dumps(asdict(attempt), separators=(",", ":")) + "\n")
        self._file.flush()
