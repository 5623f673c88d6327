"""Clients, true stores, and a network that a seed makes late, lossy and deadly, step by step.

The groups are the state machines that the nodes run; only Raft between them is left out. A call is
carried out at most once, but perhaps long after its client gave up on it, or died.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TypeVar

from month5_kvstore.node import GROUPS, group_of_all
from month5_kvstore.store import (
    Envelope,
    Interval,
    Put,
    Range,
    Refused,
    Store,
    TransactionDone,
    keys_of,
)
from month5_kvstore.transactions import protocols
from month5_kvstore.transactions.calls import Call, Pause, Protocol, Reply, Wish
from month5_kvstore.transactions.intents import Intent, decode
from month5_kvstore.transactions.places import INTENTS
from month5_kvstore.transactions.protocols import Ended
from month5_kvstore.transactions.workspace import Workspace
from scalelab.commit import Outcome
from scalelab.ids import uuid7

KEYS = (b"a", b"b", b"c", b"{d}/1", b"{d}/2")
T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def driven(protocol: Protocol[T], answer: Callable[[Wish], tuple[Reply, ...]]) -> T:
    """Its result, its wishes answered so."""
    replies: tuple[Reply, ...] | None = None
    while True:
        try:
            wish = protocol.send(replies) if replies is not None else next(protocol)
        except StopIteration as stop:
            result: T = stop.value
            return result
        replies = answer(wish)


class Groups:
    """All groups of a store, asked directly. committed: transactions in the order they took."""

    def __init__(self) -> None:
        self.stores = [Store() for _ in range(GROUPS)]
        self.committed: list[str] = []

    def carry_out(self, call: Call, tx: str = "") -> TransactionDone | Refused:
        group = group_of_all(keys_of(call.command))
        done = self.stores[group].execute(Envelope(0, call.command))
        assert isinstance(done, TransactionDone | Refused)
        if isinstance(done, TransactionDone) and done.succeeded:
            puts = [one for one in call.command.then if isinstance(one, Put)]
            decided = call.step == "record" and puts[0].value == Outcome.COMMIT.value.encode()
            if (decided or call.step == "commit") and tx not in self.committed:
                self.committed.append(tx)  # a record that comes late leaves a record, no more
        return done

    def values(self) -> dict[bytes, bytes]:
        """Of the callers' keys."""
        found = self._items(b"")
        return {key: value for key, value in found.items() if not key.startswith(b"\x00")}

    def intents(self) -> list[Intent]:
        return [decode(value) for value in self._items(INTENTS).values()]

    def run(self, protocol: Protocol[T], tell: Callable[[Wish], None] = lambda _: None) -> T:
        """Drive a protocol with nothing in its way. tell: hears of each wish before it is met."""

        def answer(wish: Wish) -> tuple[Reply, ...]:
            tell(wish)
            return () if isinstance(wish, Pause) else tuple(map(self.carry_out, wish))

        return driven(protocol, answer)

    def recover(self) -> None:
        """As a sweep does."""
        for intent in self.intents():
            self.run(protocols.settle(intent))

    def _items(self, prefix: bytes) -> dict[bytes, bytes]:
        query = Range(Interval.prefix(prefix))
        return {one.key: one.value for store in self.stores for one in store.find(query).items}


@dataclass
class Told:
    """A transaction as its client knows it. outcome: None while, or if for ever, unknown.
    window: for one that only read: commits before its last look, and before its end."""

    reads: dict[bytes, bytes | None]
    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    outcome: Outcome | None = None
    window: tuple[int, int] = (0, 0)


Program = Generator[object, tuple[Reply, ...], None]


@dataclass
class Client:
    """tx: what it is about, as far as the network can tell. waiting: replies still to come."""

    program: Program
    tx: str = ""
    waiting: int = 0
    replies: dict[int, Reply] = field(default_factory=dict)


@dataclass
class Sent:
    client: Client
    place: int
    call: Call
    tx: str


class Interleaving:
    """One seeded run. faults: how often, in a hundred steps, something gets lost or dies."""

    def __init__(self, seed: int, *, clients: int = 3, transactions: int = 8, faults: int = 8):
        self.random = Random(seed)
        self.groups = Groups()
        self.told: dict[str, Told] = {}
        self.crashes = 0
        self._faults = faults
        self._left = transactions * clients
        self._sent: list[Sent] = []
        self._late: list[Sent] = []
        for _ in range(clients):
            self._start()

    def run(self) -> None:
        """Until all clients are done, the late calls are there, and a sweep has been made."""
        while self._sent:
            self._step()
        for sent in self._late:
            self.groups.carry_out(sent.call, sent.tx)
        self.groups.recover()

    def _step(self) -> None:
        dice = self.random.randrange(100)
        if self._late and dice < 20:
            late = self._late.pop(self.random.randrange(len(self._late)))
            self.groups.carry_out(late.call, late.tx)
            return
        sent = self._sent.pop(self.random.randrange(len(self._sent)))
        if dice >= 100 - self._faults:
            self._fail(sent)
        else:
            self._reply(sent, self.groups.carry_out(sent.call, sent.tx))

    def _fail(self, sent: Sent) -> None:
        match self.random.choice(["request", "reply", "late", "crash", "crash"]):
            case "request":
                self._reply(sent, None)
            case "reply":
                self.groups.carry_out(sent.call, sent.tx)
                self._reply(sent, None)
            case "late":
                self._late.append(sent)
                self._reply(sent, None)
            case _:
                self.crashes += 1
                self._late += [one for one in (sent, *self._sent) if one.client is sent.client]
                self._sent = [one for one in self._sent if one.client is not sent.client]
                sent.client.program.close()
                self._start()

    def _reply(self, sent: Sent, reply: Reply) -> None:
        client = sent.client
        client.replies[sent.place] = reply
        if len(client.replies) == client.waiting:
            self._go_on(client, tuple(reply for _, reply in sorted(client.replies.items())))

    def _start(self) -> None:
        client = Client(iter(()))  # type: ignore[arg-type]
        client.program = self._program(client)
        self._go_on(client, None)

    def _go_on(self, client: Client, replies: tuple[Reply, ...] | None) -> None:
        try:
            wish = next(client.program) if replies is None else client.program.send(replies)
            while isinstance(wish, Pause):
                wish = client.program.send(())
        except StopIteration:
            return
        assert isinstance(wish, tuple)
        client.waiting, client.replies = len(wish), {}
        self._sent += [Sent(client, place, call, client.tx) for place, call in enumerate(wish)]

    def _program(self, client: Client) -> Program:
        while self._left > 0:
            self._left -= 1
            client.tx = uuid7(NOW, self.random.getrandbits).hex
            yield from self._transaction(client.tx)

    def _transaction(self, tx: str) -> Program:
        random = self.random
        work = Workspace()
        keys = random.sample(KEYS, random.choice([1, 2, 2, 3]))
        parts = [keys] if random.random() < 0.5 else [[key] for key in keys]
        told = Told({})
        try:
            for part in parts:
                told.window = (len(self.groups.committed), 0)
                work.saw((yield from protocols.read(part, patience=2)))
        except protocols.Unavailable:
            return
        told.reads = {key: work.value(key) for key in keys}
        self._write(work, told, keys)
        self.told[tx] = told
        ended: Ended = yield from protocols.commit(tx, work)
        told.outcome = ended.outcome
        told.window = (told.window[0], len(self.groups.committed))

    def _write(self, work: Workspace, told: Told, keys: Sequence[bytes]) -> None:
        random = self.random
        kind = random.choice(["only read", "count", "count", "skew", "blind", "delete"])
        changed = keys[: {"only read": 0, "skew": 1}.get(kind, len(keys))]
        for key in changed:
            if kind == "delete" and random.random() < 0.5:
                work.delete(key)
                told.writes[key] = None
                continue
            value = b"%d" % (sum(int(one or b"0") for one in told.reads.values()) % 10_000 + 1)
            work.put(key, value)
            told.writes[key] = value
        if kind == "blind":
            other = random.choice(KEYS)
            work.put(other, b"7")
            told.writes[other] = b"7"
