"""What the protocols of this room ask for and what they are answered: values, no I/O.

A protocol is a generator. It yields calls that may be carried out at once, is sent one reply for
each, and returns its result. Who drives it sends the calls to groups, or lets them get lost.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from month5_kvstore.store import Refused, Transaction, TransactionDone

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One command for one group. step: what it is for: `look`, `prepare`, `record`, `finish`, …"""

    step: str
    command: Transaction


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before asking again; `number` pauses of this reader came before. Answered by ()."""

    number: int


Wish = tuple[Call, ...] | Pause
Reply = TransactionDone | Refused | None
"""Refused: not carried out. None: no answer, so it may be carried out, now or later, at most once.
"""

Protocol = Generator[Wish, tuple[Reply, ...], T]
