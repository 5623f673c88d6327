"""A whole cluster in one process under virtual time: a plan goes in, an outcome comes out.

One queue of events by time; ties go by order of scheduling, so nothing depends on hashing or on
the machine. Every generator is seeded from the plan's seed and a name. No thread, no sleep, no
socket.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from month5_kvstore.raft import Configuration, Message, Raft, Ready, Role
from month5_kvstore.simulation.clients import Clients
from month5_kvstore.simulation.history import Answer, Call, Judge
from month5_kvstore.simulation.invariants import (
    JOINT_ENDS,
    LEADER,
    LINEARIZABLE,
    LIVENESS,
    STOPPED,
    Violation,
    Watch,
)
from month5_kvstore.simulation.machine import Machine
from month5_kvstore.simulation.network import Network
from month5_kvstore.simulation.plan import (
    OF_NODES,
    SECOND_US,
    TICK_US,
    Act,
    ActKind,
    Fault,
    FaultKind,
    Plan,
    PlannedCall,
)
from month5_kvstore.simulation.trace import Event, describe, digest
from scalelab.errors import ScalelabError

_RECOVERY_US = 20 * SECOND_US
_TIMEOUTS = 12
"""So many of the longest election time-outs after the storm there is a leader."""

Observer = Callable[[int, str, int, int, str], None]
"""Called with (time in µs, what, node, other node or 0, text) where a story is wanted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. rule: the broken one, or None. events: how many; hash: over all of them.
    calls: the history; answered: how many calls got an answer."""

    plan: Plan
    rule: str | None
    detail: str
    at_us: int
    events: int
    hash: str
    calls: tuple[Call, ...]
    answered: int
    elections: int

    @property
    def holds(self) -> bool:
        """Whether no rule was broken."""
        return self.rule is None


class World:
    """One run. Not reusable: make one, call `run`."""

    def __init__(self, plan: Plan, *, observer: Observer | None = None) -> None:
        self.plan = plan
        self.now_us = 0
        self.trace: list[Event] = []
        self._observer = observer
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._network = Network(Random(f"network {plan.seed}"), plan.latency_us)
        self._disks = Random(f"disk {plan.seed}")
        self._clients = Clients(self, Random(f"clients {plan.seed}"))
        self._timeouts = {node: Random(f"node {node} {plan.seed}") for node in plan.nodes}
        self._slow_disk_us = dict.fromkeys(plan.nodes, 0)
        own_us = plan.tick_us or (TICK_US,) * len(plan.nodes)
        self._own_tick_us = dict(zip(plan.nodes, own_us, strict=True))
        self._tick_us = dict(self._own_tick_us)
        self._ambushed: dict[int, bool] = {}
        self._exiles: dict[Fault, Fault] = {}
        self._paused: dict[int, list[Callable[[], None]]] = {}
        self._down: dict[int, int] = dict.fromkeys(plan.nodes, 0)
        self._terms_led: set[int] = set()
        self._led_at_us = 0
        self.machines: dict[int, Machine] = {}
        self._watch = Watch(self.machines)
        group = Configuration(plan.voters)
        self.machines |= {
            node: Machine(
                node,
                group if node in plan.voters else Configuration(()),
                plan.settings,
                plan.compact_entries,
                self,
                self._watch,
            )
            for node in plan.nodes
        }

    def run(self, judge: Judge) -> Outcome:
        """Play the plan to its end, or to the first broken rule; then judge the history."""
        rule, detail = None, ""
        try:
            self._set_up()
            self._play(self.plan.duration_us)
            self._play(self.plan.duration_us + _RECOVERY_US, until_well=True)
            self._must_be_well()
        except Violation as violation:
            rule, detail = violation.rule, violation.detail
        except (AssertionError, ScalelabError) as error:
            rule, detail = STOPPED, f"{type(error).__name__}: {error}"
        history = self._clients.history()
        if rule is None and (complaint := judge(history)) is not None:
            rule, detail = LINEARIZABLE, complaint
        if rule is not None:
            self.note("broken", 0, 0, f"{rule}: {detail}")
        return Outcome(
            self.plan,
            rule,
            detail,
            self.now_us,
            len(self.trace),
            digest(self.trace),
            history,
            self._clients.answers,
            len(self._terms_led),
        )

    def _set_up(self) -> None:
        plan = self.plan
        for node, machine in self.machines.items():
            machine.start(self._timeouts[node])
            phase_us = 0 if plan.lockstep else self._timeouts[node].randrange(TICK_US)
            self.at(phase_us, partial(self._tick, node))
        for fault in plan.faults:
            self.at(fault.at_us, partial(self._begin, fault))
            self.at(fault.until_us, partial(self._end, fault))
        for act in plan.acts:
            self.at(act.at_us, partial(self._act, act))
        for call in plan.calls:
            self.at(call.at_us, partial(self._clients.call, call, call.node))
        self._clients.probe(plan.duration_us - SECOND_US)

    def _play(self, end_us: int, *, until_well: bool = False) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end_us:
            if until_well and self._complaint() is None:
                return
            self.now_us, _, event = heapq.heappop(queue)
            event()

    def _complaint(self) -> tuple[str, str] | None:
        """What does not work (rule, in words), or None if all does."""
        if not self._clients.probe_answered:
            return LIVENESS, "a write got no answer though nothing is broken any more"
        leading = [m.raft for m in self.machines.values() if m.raft and m.raft.role is Role.LEADER]
        if not leading:
            return LIVENESS, "nobody leads though nothing is broken any more"
        latest = max(leading, key=lambda raft: raft.term)
        if latest.status().configuration.joint:
            return JOINT_ENDS, f"still under way in term {latest.term}"
        return None

    def _must_be_well(self) -> None:
        if (complaint := self._complaint()) is not None:
            raise Violation(*complaint)
        longest_us = 2 * self.plan.settings.election_ticks * max(self._own_tick_us.values())
        took_us = self._led_at_us - self.plan.stormy_us
        if took_us > _TIMEOUTS * longest_us:
            raise Violation(LEADER, f"the first after the storm came {took_us / 1e6:.1f} s later")

    def at(self, at_us: int, event: Callable[[], None]) -> None:
        """Let `event` happen then; what was asked for first goes first."""
        self._sequence += 1
        heapq.heappush(self._queue, (at_us, self._sequence, event))

    def note(self, what: str, node: int, other: int, text: str) -> None:
        """Put an event into the trace, and tell the observer."""
        self.trace.append((self.now_us, what, node, other, text))
        if self._observer is not None:
            self._observer(self.now_us, what, node, other, text)

    # Nodes ---------------------------------------------------------------------------------

    def _tick(self, node: int) -> None:
        self.at(self.now_us + self._tick_us[node], partial(self._tick, node))
        if node not in self._paused:
            self.machines[node].tick()
            self._look(node)

    def _look(self, node: int) -> None:
        """Note a new leader; the rest of a node's state follows from its messages."""
        raft = self.machines[node].raft
        if raft is None or raft.role is not Role.LEADER:
            return
        if self._led_at_us < self.plan.stormy_us:
            self._led_at_us = self.now_us
        if raft.term not in self._terms_led:
            self._terms_led.add(raft.term)
            self.note("leads", node, 0, f"term {raft.term}")

    def _run_or_wait(self, node: int, work: Callable[[], None]) -> None:
        """Do it now, or when the process goes on."""
        waiting = self._paused.get(node)
        if waiting is None:
            work()
        else:
            waiting.append(work)

    def send(self, message: Message) -> None:
        """See Surroundings."""
        if self._observer is not None:
            self._observer(self.now_us, "sends", message.sender, message.to, describe(message))
        if self._network.is_cut(message):
            return
        for delay_us in self._network.arrivals_us():
            self.at(self.now_us + delay_us, partial(self._arrive, message))

    def _arrive(self, message: Message) -> None:
        if message.to not in self.machines or self._network.is_cut(message):
            return
        if self._network.is_clogged(message):
            self._network.held.append(message)
            return
        self._run_or_wait(message.to, partial(self._deliver, message))

    def _deliver(self, message: Message) -> None:
        machine = self.machines[message.to]
        name = type(message).__name__
        self.trace.append((self.now_us, name, message.sender, message.to, message.term))
        if self._observer is not None:
            text = describe(message)
            self._observer(self.now_us, "gets", message.to, message.sender, text)
        machine.receive(message)
        self._look(message.to)

    def sync(self, machine: Machine, ready: Ready | None) -> None:
        """See Surroundings."""
        delay_us = self._disks.randrange(200, 4_000) + self._slow_disk_us[machine.id]
        if (ready is None or ready.snapshot is not None) and machine.id in self._ambushed:
            around_us = self._disks.randrange(2 * delay_us)
            self.at(self.now_us + around_us, partial(self._strike, machine.id))
        work = partial(self._synced, machine, machine.life, machine.disk.waiting, ready)
        self.at(self.now_us + delay_us, work)

    def _synced(self, machine: Machine, life: int, count: int, ready: Ready | None) -> None:
        def done() -> None:
            if machine.life == life and machine.raft is not None:
                machine.synced(min(count, machine.disk.waiting), ready)

        self._run_or_wait(machine.id, done)

    # Faults and operators ------------------------------------------------------------------

    def _exile(self, fault: Fault) -> Fault:
        """The split of whoever leads now, in the latest term; of nobody if nobody does."""
        leading = {
            node: machine.raft.term
            for node, machine in self.machines.items()
            if machine.raft is not None and machine.raft.role is Role.LEADER
        }
        nodes = (max(leading, key=lambda node: leading[node]),) if leading else ()
        return replace(fault, kind=FaultKind.SPLIT, nodes=nodes)

    def _begin(self, fault: Fault) -> None:
        if fault.kind is FaultKind.EXILE:
            self._exiles[fault] = self._exile(fault)
            fault = self._exiles[fault]
        text = f"{fault.kind} {fault.amount}" if fault.amount else str(fault.kind)
        self.note("fault", fault.nodes[0] if fault.nodes else 0, 0, f"{text} of {fault.nodes}")
        if fault.kind not in OF_NODES:
            self._network.begin(fault)
            return
        for node in fault.nodes:
            self._begin_at(fault, node)

    def _begin_at(self, fault: Fault, node: int) -> None:
        machine = self.machines[node]
        match fault.kind:
            case FaultKind.CRASH:
                self._crash(node)
            case FaultKind.AMBUSH:
                self._ambushed.setdefault(node, False)
            case FaultKind.PAUSE:
                self._paused.setdefault(node, [])
            case FaultKind.SLOW_DISK:
                self._slow_disk_us[node] = fault.amount * 1000
            case FaultKind.CLOCK_SLOW:
                self._tick_us[node] = self._own_tick_us[node] * 100 // fault.amount
            case _:
                if node not in self._paused:
                    for _ in range(fault.amount):
                        machine.tick()
                    self._look(node)

    def _crash(self, node: int) -> None:
        self._down[node] += 1
        machine = self.machines[node]
        if machine.raft is not None:
            survived, lost = machine.crash(self._disks)
            self.note("crashed", node, 0, f"{lost} unsynced writes lost, {survived} kept")

    def _strike(self, node: int) -> None:
        """Whoever lay in wait for this node's snapshot: once, and only while it lies there."""
        if self._ambushed.get(node) is False and self.machines[node].raft is not None:
            self._ambushed[node] = True
            self._crash(node)

    def _rise(self, node: int) -> None:
        self._down[node] -= 1
        if self._down[node] == 0 and self.machines[node].raft is None:
            self.machines[node].start(self._timeouts[node])

    def _end(self, fault: Fault) -> None:
        fault = self._exiles.pop(fault, fault)
        if fault.kind is FaultKind.CLOCK_JUMP:
            return
        self.note("over", fault.nodes[0] if fault.nodes else 0, 0, f"{fault.kind} {fault.nodes}")
        if fault.kind not in OF_NODES:
            for message in self._network.end(fault):
                self._run_or_wait(message.to, partial(self._deliver, message))
            return
        for node in fault.nodes:
            self._end_at(fault, node)

    def _end_at(self, fault: Fault, node: int) -> None:
        match fault.kind:
            case FaultKind.CRASH:
                self._rise(node)
            case FaultKind.AMBUSH:
                if self._ambushed.pop(node, False):
                    self._rise(node)
            case FaultKind.PAUSE:
                for work in self._paused.pop(node, []):
                    work()
            case FaultKind.SLOW_DISK:
                self._slow_disk_us[node] = 0
            case _:
                self._tick_us[node] = self._own_tick_us[node]

    def _act(self, act: Act) -> None:
        for node, machine in self.machines.items():
            raft = machine.raft
            if raft is None or raft.role is not Role.LEADER or node in self._paused:
                continue
            try:
                self._ask(raft, act)
                self.note("asked", node, 0, f"{act.kind} {act.nodes}")
            except ScalelabError as error:
                self.note("refused", node, 0, f"{act.kind} {act.nodes}: {error}")
            machine.pump()

    def _ask(self, raft: Raft, act: Act) -> None:
        members = raft.status().configuration
        match act.kind:
            case ActKind.TRANSFER:
                raft.transfer_leadership(act.nodes[0])
            case ActKind.LEARN:
                raft.change_members(members.voters, set(act.nodes) - set(members.voters))
            case ActKind.MEMBERS:
                raft.change_members(act.nodes, set(members.learners) - set(act.nodes))

    # What machines ask of the world ----------------------------------------------------------

    def answered(self, call: PlannedCall, answer: Answer) -> None:
        """See Surroundings."""
        self._clients.answered(call, answer)

    def turned_away(self, call: PlannedCall, leader: int) -> None:
        """See Surroundings."""
        self._clients.turned_away(call, leader)

    def abandoned(self, call: PlannedCall) -> None:
        """See Surroundings."""
        self._clients.abandoned(call)

    def begin_call(self, call: PlannedCall, node: int, context: int) -> None:
        """A client's call reaches a node."""
        self._run_or_wait(node, lambda: self.machines[node].take(call, context))


def simulate(plan: Plan, judge: Judge, *, observer: Observer | None = None) -> Outcome:
    """Run a plan once."""
    return World(plan, observer=observer).run(judge)
