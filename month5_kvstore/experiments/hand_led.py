"""A Raft group led by hand: one leg of the network at a time, on perfect disks.

All messages under way arrive together, in order of their senders; nothing is random but what the
nodes draw. Who is cut off neither hears nor is heard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from month5_kvstore.raft import Configuration, Message, Raft, Ready, Role, Settings, Snapshot


@dataclass(frozen=True, slots=True)
class Cost:
    """Of something agreed upon: messages between nodes, and legs one after the other."""

    messages: int
    legs: int


class HandLed:
    """nodes: 1 … n. cut: who is cut off now; may be changed between two legs. done: told of every
    node and Ready, once all of it is done."""

    def __init__(
        self, nodes: int, settings: Settings, *, random: Callable[[int], Random] = Random
    ) -> None:
        group = Configuration(tuple(range(1, nodes + 1)))
        empty = Snapshot(0, 0, group, b"")
        self.rafts = {
            node: Raft(node, settings, random=random(node), snapshot=empty) for node in group.voters
        }
        self.cut: set[int] = set()
        self.done: Callable[[int, Ready], None] = lambda node, ready: None

    @property
    def leader(self) -> Raft | None:
        """Who leads the latest term, cut off or not; None if nobody does."""
        leading = [raft for raft in self.rafts.values() if raft.role is Role.LEADER]
        return max(leading, key=lambda raft: raft.term, default=None)

    def elected(self) -> int:
        """Tick until somebody leads and nothing is under way; returns the node."""
        while (leader := self.leader) is None:
            self.tick()
        self.settle()
        return next(node for node, raft in self.rafts.items() if raft is leader)

    def tick(self) -> None:
        """One tick for every node that is not stopped, then one leg."""
        for raft in self.rafts.values():
            raft.tick()
        self.leg()

    def leg(self) -> int:
        """What is to be sent is sent and arrives; returns how many messages that were."""
        arriving = [message for node in self.rafts for message in self._sent(node)]
        for message in arriving:
            if message.sender not in self.cut and message.to not in self.cut:
                self.rafts[message.to].step(message)
        return len(arriving)

    def until(self, done: Callable[[], bool]) -> Cost:
        """Legs until it is done, or nothing is under way any more. What already wants to be sent
        when it is done is left for later."""
        messages = legs = 0
        while not done():
            if not (sent := self.leg()):
                break
            messages, legs = messages + sent, legs + 1
        return Cost(messages, legs)

    def settle(self) -> int:
        """Legs until nothing is under way any more; returns how many messages that were."""
        return self.until(lambda: False).messages

    def _sent(self, node: int) -> list[Message]:
        """Perform all that is to be done; what goes to the network."""
        raft = self.rafts[node]
        sent: list[Message] = []
        while (ready := raft.ready()) is not None:
            sent += [*ready.sends_first, *ready.sends]
            raft.advance(ready)
            self.done(node, ready)
        return sent
