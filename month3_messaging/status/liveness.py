"""When to ask a client whether it is there, and when to give it up. Pure.

A client that was not heard for `heartbeat_s` is asked (a ping). One that was not heard for
`silence_s`, whatever it was sent, is gone: a cable was pulled, a process frozen. One whose socket
has taken nothing for `stall_s` does not read: its queue is bounded anyway, its connection is not
worth keeping. One whose token has expired must come back with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds, all > 0. silence_s: more than two heartbeats, or one lost answer would end it."""

    heartbeat_s: float = 15.0
    silence_s: float = 45.0
    stall_s: float = 30.0


class Verdict(StrEnum):
    """What to do about a client; the last three end its connection, and are what it is told."""

    FINE = "fine"
    ASK = "ask"
    SILENT = "silent"
    TOO_SLOW = "too_slow"
    TOKEN_EXPIRED = "token_expired"


@dataclass(slots=True)
class Signs:
    """What is known of a client, in seconds of one clock. stalled_s: since when it takes nothing.

    asked_s: of the last ping. expires_s: of its token.
    """

    heard_s: float
    asked_s: float
    expires_s: float
    stalled_s: float | None = None


def judge(signs: Signs, pace: Pace, now_s: float) -> Verdict:
    """The most pressing verdict."""
    if now_s >= signs.expires_s:
        return Verdict.TOKEN_EXPIRED
    if signs.stalled_s is not None and now_s - signs.stalled_s >= pace.stall_s:
        return Verdict.TOO_SLOW
    if now_s - signs.heard_s >= pace.silence_s:
        return Verdict.SILENT
    if now_s - max(signs.heard_s, signs.asked_s) >= pace.heartbeat_s:
        return Verdict.ASK
    return Verdict.FINE
