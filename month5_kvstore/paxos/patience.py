"""How long a proposer waits before its next ballot: what makes Paxos end (section 2.4).

A ballot takes four legs of the network: Prepare, Promise, Accept, Accepted. A proposer that begins
again sooner takes its own ballot away, and any other one's. Two that do it at the same pace do it
for ever; chance and growing pauses give one of them the time it needs. A distinguished proposer
(a leader) needs no chance, but choosing one needs it (Fischer, Lynch and Paterson 1985).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

_DOUBLINGS_MAX = 10


@dataclass(frozen=True, slots=True)
class Patience:
    """timeout_us: before the second ballot, >= 1. random: draw each pause from 1 to 2 times the
    base, which doubles after each ballot. Without it all pauses are equal."""

    timeout_us: int
    random: bool = True

    def pause_us(self, ballots: int, random: Random) -> int:
        """How long to wait for the outcome of ballot number `ballots` (1, 2, …) of a proposer."""
        if not self.random:
            return self.timeout_us
        base_us = self.timeout_us << min(ballots - 1, _DOUBLINGS_MAX)
        return base_us + random.randrange(base_us)
