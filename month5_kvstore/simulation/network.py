"""A network with bad days: it loses, repeats, delays, reorders, splits and holds back messages.

Two nodes hear each other unless a fault is open that says otherwise; a message that is on its way
when a split begins does not arrive. Every choice is drawn from the run's own generator.
"""

from __future__ import annotations

from random import Random

from month5_kvstore.raft import Message
from month5_kvstore.simulation.plan import Fault, FaultKind

_LATE_US = (100_000, 1_500_000)


class Network:
    """Decides what becomes of a message; delivers nothing itself."""

    __slots__ = ("_delay_us", "_loss", "_open", "_random", "_repeat", "_usual_us", "held")

    def __init__(self, random: Random, usual_us: tuple[int, int]) -> None:
        self._random = random
        self._usual_us = usual_us
        self._open: list[Fault] = []
        self._loss = self._repeat = 0.0
        self._delay_us = 0
        self.held: list[Message] = []

    def begin(self, fault: Fault) -> None:
        """A fault of the network begins."""
        self._open.append(fault)
        self._sum_up()

    def end(self, fault: Fault) -> list[Message]:
        """It ends; returns the messages that were held back and go on now, in order."""
        self._open.remove(fault)
        self._sum_up()
        free = [message for message in self.held if not self.is_clogged(message)]
        self.held = [message for message in self.held if self.is_clogged(message)]
        return free

    def arrivals_us(self) -> list[int]:
        """After how long copies of one message arrive: usually one, perhaps none, perhaps two."""
        random = self._random
        if self._loss and random.random() < self._loss:
            return []
        delay_us = random.randrange(*self._usual_us)
        if self._delay_us:
            delay_us += random.randrange(self._delay_us)
        if self._repeat and random.random() < self._repeat:
            return [delay_us, delay_us + random.randrange(*_LATE_US)]
        return [delay_us]

    def is_cut(self, message: Message) -> bool:
        """Whether a fault keeps this sender from this receiver."""
        for fault in self._open:
            sends, hears = message.sender in fault.nodes, message.to in fault.nodes
            if sends == hears:
                continue
            if fault.kind is FaultKind.SPLIT:
                return True
            if fault.kind is FaultKind.DEAF and hears:
                return True
            if fault.kind is FaultKind.MUTE and sends:
                return True
        return False

    def is_clogged(self, message: Message) -> bool:
        """Whether a fault holds this message back."""
        return any(
            fault.kind is FaultKind.CLOG
            and (message.sender in fault.nodes or message.to in fault.nodes)
            for fault in self._open
        )

    def _sum_up(self) -> None:
        def largest(kind: FaultKind) -> int:
            return max((fault.amount for fault in self._open if fault.kind is kind), default=0)

        self._loss = largest(FaultKind.LOSS) / 100
        self._repeat = largest(FaultKind.REPEAT) / 100
        self._delay_us = largest(FaultKind.DELAY) * 1000
