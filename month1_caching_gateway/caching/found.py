"""What a look in the store found, sorted by how it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from month1_caching_gateway.caching.answers import Answer, Codec
from month1_caching_gateway.caching.entries import Entry, Kind, Policy
from month1_caching_gateway.caching.events import EntryUnreadable, Hook, Outcome
from month1_caching_gateway.caching.freshness import Use, use_of
from scalelab.clock import Clock
from scalelab.errors import CorruptData

T = TypeVar("T")


@dataclass(slots=True)
class Found(Generic[T]):
    """answers: to be given. refresh: keys among them to load anew behind. fallback: to be given
    only if the source fails. now_ms: the instant all was judged at, 0 if nobody asked."""

    answers: dict[str, Answer[T]] = field(default_factory=dict[str, "Answer[T]"])
    fallback: dict[str, Answer[T]] = field(default_factory=dict[str, "Answer[T]"])
    refresh: list[str] = field(default_factory=list[str])
    now_ms: float = 0.0

    def fresh_values(self) -> dict[str, T | None]:
        """The values that are not past their time."""
        return {
            key: answer.value
            for key, answer in self.answers.items()
            if answer.outcome is Outcome.HIT
        }


class EntrySorter(Generic[T]):
    """Sorts entries by `policy`. random: each reader's dice for early loads."""

    def __init__(
        self, codec: Codec[T], policy: Policy, *, clock: Clock, random: Random, hook: Hook
    ) -> None:
        self._codec = codec
        self._policy = policy
        self._clock = clock
        self._random = random
        self._hook = hook

    def sort(self, entries: Mapping[str, Entry]) -> Found[T]:
        """Values and absences by their use; fences and unreadable payloads are left out."""
        found: Found[T] = Found()
        if self._policy.tells_freshness:
            found.now_ms = self._clock.now().timestamp() * 1000
        for key, entry in entries.items():
            if entry.kind is Kind.FENCE:
                continue
            use = Use.FRESH
            if entry.fresh_until_ms:
                draw = self._random.random()
                use = use_of(entry, self._policy, now_ms=found.now_ms, draw=draw)
            if use is Use.NONE:
                continue
            value: T | None = None
            if entry.kind is Kind.VALUE:
                try:
                    value = self._codec.decode(entry.payload)
                except CorruptData:
                    self._hook(EntryUnreadable(key))
                    continue
            if use is Use.FALLBACK:
                found.fallback[key] = Answer(value, Outcome.STALE)
                continue
            outcome = Outcome.STALE if use is Use.BEHIND else Outcome.HIT
            found.answers[key] = Answer(value, outcome)
            if use is not Use.FRESH:
                found.refresh.append(key)
        return found
