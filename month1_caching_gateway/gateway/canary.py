"""Canary: which of two versions of a service answers a request.

Theory of operation
    A part of the traffic goes to the new version. Three rules, in this order:

    header   testers force it: `always` goes to the canary, `never` to the stable version.
    user     with `sticky: user`, a verified user's place in 0..100 is a hash of his id, the same on
             every process and at every request; he is in when it lies below `percent`.
    weight   everybody else by chance, `percent` of the requests.

Invariants (tests cite them)
    C1  A header that says `always` or `never` decides; any other value is as if it were absent.
    C2  A sticky user gets one version while `percent` stands; raising it only adds users.
    C3  0 is nobody and 100 is everybody, whatever the hash or the chance.

The hash is salted with the canary's name: the first users of one canary are not those of the next.
Absent on purpose: judging the canary. Metrics per upstream tell; a release tool moves `percent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import xxhash

from scalelab.errors import InvalidInput

_FORCED = {b"always": True, b"never": False}


class Why(Enum):
    """Which rule decided."""

    HEADER = "header"
    USER = "user"
    WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class Canary:
    """upstream: the new version. percent: of users or requests, 0..100. header: "" = none.

    The header is for testers: name it so that nobody else sends it, or have the edge remove it.
    It stands in lower case.
    """

    upstream: str
    percent: float = 0.0
    header: str = ""
    sticky: Literal["none", "user"] = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise InvalidInput("a canary's percent lies in 0..100", field="canary")
        if self.header != self.header.strip().lower():
            raise InvalidInput("a canary's header is written in lower case", field="canary")


@dataclass(frozen=True, slots=True)
class Choice:
    """canary: the new version answers."""

    canary: bool
    why: Why


def choose(canary: Canary, *, forced: bytes | None, user: str, chance: float) -> Choice:
    """The version for one request.

    forced: the header's value, None without it. user: the verified subject, "" for a stranger.
    chance: uniform in [0, 1).
    """
    said = _FORCED.get(forced.strip().lower()) if forced is not None else None
    if said is not None:
        return Choice(said, Why.HEADER)
    if canary.sticky == "user" and user:
        return Choice(place_of(user, canary.upstream) < canary.percent, Why.USER)
    return Choice(chance * 100 < canary.percent, Why.WEIGHT)


def place_of(user: str, salt: str) -> float:
    """Where a user stands in [0, 100), the same everywhere and for ever."""
    # 53 bits: all that a float holds, so that the result stays below 100.
    return (xxhash.xxh3_64_intdigest(f"{salt}\0{user}".encode()) >> 11) * (100 / 2**53)
