"""Scripts: a cluster led by the hand, for stories that luck would tell too rarely.

A script is a text of one command a line; `#` begins a comment. Nothing happens by itself: no clock
runs, no message moves and no sync ends unless the script says so (but syncs are at once until
`slow`). Every promise of the simulator is checked all the same. What happened comes back as text,
command by command, so that a test can hold it against a golden copy.

    group 3 spares=1 pre_vote=off    voters 1..3, one more node that belongs to nobody yet
    campaign 1                       stand for election at once
    tick 1 10                        ten ticks of node 1's clock
    settle                           deliver messages until none is left
    deliver 1 2                      deliver what is on its way from 1 to 2, once
    drop 1 2                         lose it; `drop` alone: everything
    keep 1 2, late                   put a copy of it aside; let all copies arrive
    cut 1 2                          no message passes between 1 or 2 and the others
    heal                             all do again
    put 1 5, cas 1 0 5, get 2        a client asks a node to write or read the register
    crash 1, restart 1               as from a power cut: what was not synced is lost
    slow 1, sync 1                   hold node 1's syncs; let them end
    members 1 1,2,4 3                ask 1 for these voters and these learners
    transfer 1 2                     ask 1 to hand over to 2
    send 1 2 append t2 2/1 [3/2] 5   a message from outside: prev, entries, commit
    show                             a line for each node
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from month5_kvstore.raft import (
    AppendEntries,
    Configuration,
    Entry,
    EntryKind,
    Message,
    Raft,
    Ready,
    Settings,
)
from month5_kvstore.simulation.history import Answer
from month5_kvstore.simulation.invariants import STOPPED, Violation, Watch
from month5_kvstore.simulation.machine import Machine
from month5_kvstore.simulation.plan import PlannedCall
from month5_kvstore.simulation.trace import describe
from scalelab.errors import Conflict, InvalidInput, Retryable, ScalelabError

_SETTLE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Told:
    """What a script did. lines: commands and what came of them; rule: the broken one, or None."""

    lines: tuple[str, ...]
    rule: str | None
    detail: str


class Stage:
    """A cluster that waits for commands. Make one, `run` each line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.machines: dict[int, Machine] = {}
        self._watch = Watch(self.machines)
        self._on_the_way: list[Message] = []
        self._apart: set[int] = set()
        self._kept: list[Message] = []
        self._slow: dict[int, list[tuple[int, int, Ready | None]]] = {}
        self._calls = 0
        self._verbs: dict[str, Callable[[list[str]], None]] = {
            "group": self._group,
            "campaign": lambda words: self._of(words[0]).campaign(),
            "tick": self._tick,
            "settle": lambda _: self._settle(),
            "deliver": self._deliver,
            "drop": self._drop,
            "keep": self._keep,
            "late": self._late,
            "cut": lambda words: self._apart.update(map(int, words)),
            "heal": lambda _: self._apart.clear(),
            "put": lambda words: self._ask(words[0], "put", words[1:]),
            "cas": lambda words: self._ask(words[0], "cas", words[1:]),
            "get": lambda words: self._ask(words[0], "get", []),
            "crash": self._crash,
            "restart": lambda words: self.machines[int(words[0])].start(Random(int(words[0]))),
            "slow": lambda words: self._slow.update({int(words[0]): []}),
            "sync": self._sync,
            "members": self._members,
            "transfer": lambda words: self._of(words[0]).transfer_leadership(int(words[1])),
            "send": self._from_outside,
            "show": lambda _: self._show(),
        }

    def run(self, line: str) -> None:
        """Carry out one line. Raises InvalidInput for words that mean nothing, Violation."""
        words = line.split("#")[0].split()
        if not words:
            return
        self.lines.append("> " + " ".join(words))
        verb = self._verbs.get(words[0])
        if verb is None:
            raise InvalidInput(f"no such command: {words[0]!r}", field="script")
        try:
            verb(words[1:])
        except (Conflict, Retryable) as error:
            self.lines.append(f"  refused: {error}")
        except (IndexError, KeyError, ValueError) as error:
            raise InvalidInput(
                f"cannot be understood: {line!r} ({error})", field="script"
            ) from error
        self._pump()

    def _pump(self) -> None:
        for node in sorted(self.machines):
            self.machines[node].pump()

    # Commands ------------------------------------------------------------------------------

    def _group(self, words: list[str]) -> None:
        options = dict(word.split("=") for word in words[1:])
        count, spares = int(words[0]), int(options.pop("spares", "0"))
        compact = int(options.pop("compact", "1000"))
        append_bytes = int(options.pop("append_bytes", "65536"))
        switches = {name: value == "on" for name, value in options.items()}
        settings = Settings(
            pre_vote=switches.pop("pre_vote", True),
            check_quorum=switches.pop("check_quorum", True),
            lease_reads=switches.pop("lease_reads", False),
            append_bytes_max=append_bytes,
        )
        if switches:
            raise InvalidInput(f"no such setting: {', '.join(switches)}", field="script")
        voters = Configuration(tuple(range(1, count + 1)))
        for node in range(1, count + spares + 1):
            group = voters if node <= count else Configuration(())
            machine = Machine(node, group, settings, compact, self, self._watch)
            machine.start(Random(node))
            self.machines[node] = machine

    def _of(self, word: str) -> Raft:
        raft = self.machines[int(word)].raft
        if raft is None:
            raise InvalidInput(f"{word} is down", field="script")
        return raft

    def _tick(self, words: list[str]) -> None:
        for _ in range(int(words[1]) if len(words) > 1 else 1):
            self.machines[int(words[0])].tick()

    def _settle(self) -> None:
        for _ in range(_SETTLE_MAX):
            if not self._on_the_way:
                return
            self._arrives(self._on_the_way.pop(0))
        raise InvalidInput("messages never end", field="script")

    def _deliver(self, words: list[str]) -> None:
        for message in self._take(words):
            self._arrives(message)

    def _drop(self, words: list[str]) -> None:
        for message in self._take(words):
            self._tell(message, "x")

    def _keep(self, words: list[str]) -> None:
        taken = self._take(words)
        self._kept += taken
        self._on_the_way += taken

    def _late(self, words: list[str]) -> None:
        kept, self._kept = self._kept, []
        for message in kept:
            self._arrives(message)

    def _take(self, words: list[str]) -> list[Message]:
        """Messages on their way, taken off it; between two nodes if two are named."""
        ends = tuple(map(int, words[:2]))
        taken = [m for m in self._on_the_way if not ends or (m.sender, m.to) == ends]
        self._on_the_way = [m for m in self._on_the_way if m not in taken]
        return taken

    def _arrives(self, message: Message) -> None:
        cut = (message.sender in self._apart) != (message.to in self._apart)
        machine = self.machines.get(message.to)
        lost = cut or machine is None or machine.raft is None
        self._tell(message, "x" if lost else ">")
        if machine is not None and not lost:
            machine.receive(message)

    def _tell(self, message: Message, arrow: str) -> None:
        self.lines.append(f"  {message.sender} -{arrow} {message.to}  {describe(message)}")

    def _ask(self, node: str, verb: str, words: list[str]) -> None:
        self._calls += 1
        arguments = tuple(map(int, words))
        call = PlannedCall(self._calls, 0, int(node), "x", verb, arguments)
        self.machines[int(node)].take(call, self._calls)

    def _crash(self, words: list[str]) -> None:
        node = int(words[0])
        self.machines[node].crash(_Nothing())
        if node in self._slow:
            self._slow[node] = []

    def _sync(self, words: list[str]) -> None:
        """All syncs end, and from now on each does at once."""
        machine = self.machines[int(words[0])]
        for life, count, ready in self._slow.pop(machine.id, []):
            if life == machine.life:
                machine.synced(min(count, machine.disk.waiting), ready)

    def _members(self, words: list[str]) -> None:
        voters = map(int, words[1].split(","))
        learners = map(int, words[2].split(",")) if len(words) > 2 else ()
        self._of(words[0]).change_members(voters, learners)

    def _from_outside(self, words: list[str]) -> None:
        sender, to, what, term, prev = words[:5]
        if what != "append":
            raise InvalidInput(f"cannot send {what!r}", field="script")
        *entries, commit = words[5:]
        prev_index, prev_term = map(int, prev.split("/"))
        carried: list[Entry] = []
        for word in "".join(f"{entry} " for entry in entries).strip("[] ").split():
            index, entry_term = map(int, word.split("/"))
            carried.append(Entry(index, entry_term, EntryKind.NOOP, b""))
        ends = int(sender), int(to), int(term[1:])
        self._arrives(AppendEntries(*ends, prev_index, prev_term, tuple(carried), int(commit)))

    def _show(self) -> None:
        for node, machine in sorted(self.machines.items()):
            raft = machine.raft
            if raft is None:
                self.lines.append(f"  {node}: down")
                continue
            status = raft.status()
            terms = " ".join(str(raft.term_at(at) or "·") for at in range(1, raft.last_index + 1))
            members = ""
            if status.configuration != Configuration(status.configuration.voters):
                members = f"  members {status.configuration.encode().decode()}"
            self.lines.append(
                f"  {node}: {raft.role} of term {raft.term}  log [{terms}]  "
                f"committed {raft.committed}{members}"
            )

    # What machines ask of the stage ----------------------------------------------------------

    def send(self, message: Message) -> None:
        """See Surroundings."""
        self._on_the_way.append(message)

    def sync(self, machine: Machine, ready: Ready | None) -> None:
        """See Surroundings."""
        held = self._slow.get(machine.id)
        if held is None:
            machine.synced(machine.disk.waiting, ready)
        else:
            held.append((machine.life, machine.disk.waiting, ready))

    def answered(self, call: PlannedCall, answer: Answer) -> None:
        """See Surroundings."""
        words = " ".join((call.verb, *map(str, call.arguments)))
        self.lines.append(f"  answer to #{call.number} {words}: {answer}")

    def turned_away(self, call: PlannedCall, leader: int) -> None:
        """See Surroundings."""
        self.lines.append(f"  #{call.number} {call.verb} is turned away, to {leader or 'anybody'}")

    def abandoned(self, call: PlannedCall) -> None:
        """See Surroundings."""
        self.lines.append(f"  #{call.number} {call.verb} gets no answer")


class _Nothing(Random):
    """No unsynced write survives a crash in a script."""

    def randint(self, a: int, b: int) -> int:
        """The least."""
        return a


def play(script: str) -> Told:
    """Play a script to its end or to the first broken rule."""
    stage = Stage()
    try:
        for line in script.splitlines():
            stage.run(line)
    except Violation as violation:
        return Told(tuple(stage.lines), violation.rule, violation.detail)
    except InvalidInput:
        raise
    except (AssertionError, ScalelabError) as error:
        return Told(tuple(stage.lines), STOPPED, f"{type(error).__name__}: {error}")
    return Told(tuple(stage.lines), None, "")
