"""What a person is told when a server cannot be had or does not come up.

Each message is one or two sentences: what, where, the evidence, the next step.
"""

from __future__ import annotations

from pathlib import Path

from scalelab.errors import ScalelabError


class ServerFailed(ScalelabError):
    """A server was there but did not start, answer or stop as it should."""

    code = "server_failed"


class ServerMissing(ScalelabError):
    """No way to get a server on this machine. The message says which, why and what to do."""

    code = "server_missing"


class NotReady(Exception):
    """One readiness probe got no good answer; the wait goes on until its deadline."""


def log_tail(log: Path, *, lines: int = 4, limit: int = 500) -> str:
    """The last lines of a log in one line of at most `limit` characters; "" if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    kept = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return " | ".join(kept)[-limit:]


def evidence(log: Path) -> str:
    """A sentence that quotes the end of a log, or says that it is empty."""
    tail = log_tail(log)
    return f'Its log ends: "{tail}".' if tail else f"Its log {log} is empty."


def next_step(name: str) -> str:
    """The commands that tell more."""
    return f"Try: ./lab logs {name}, or ./lab doctor."
