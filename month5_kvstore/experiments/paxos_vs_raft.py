"""What does one decision cost in messages and in legs of the network, with a leader and without?

Both cores are driven by hand: all messages that are under way arrive together, which is one leg.
Messages of a node to itself are not counted. Then two proposers duel under virtual time, on many
days that differ in when the second one begins. Counts only; no clock, no socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from statistics import median

from month5_kvstore.experiments.hand_led import Cost, HandLed
from month5_kvstore.paxos import (
    Accept,
    Accepted,
    Acceptor,
    Day,
    Learner,
    Patience,
    Prepare,
    Promise,
    Proposer,
    Refused,
    Send,
    answer,
    begin,
    hear,
    learn,
    run,
)
from month5_kvstore.paxos import Message as PaxosMessage
from month5_kvstore.raft import Role, Settings
from scalelab.lab.course.experiment import Arm, Axis, Cell, Claim, Experiment, Lab, Plot, Result

GROUPS = (3, 5, 7)
VALUES = 12
LEG_US = 1_000
BALLOT_LEGS = 4
BALLOTS_MAX = 400
_TIMEOUT_LEGS = (2.4, 3.0, 3.6, 4.2, 5.0, 6.0)


@dataclass(frozen=True, slots=True)
class RaftCost:
    """election: until one leads and its first entry is committed. values: one by one, each until
    its leader knows that it is committed. news: all messages that told the others so."""

    election: Cost
    values: tuple[Cost, ...]
    news: int


@dataclass(frozen=True, slots=True)
class Duels:
    """Of two proposers. days: how many; decided: how many ended; foreseen: how many should with
    equal pauses (see `foreseen`); ballots: median of a day."""

    days: int
    decided: int
    foreseen: int
    ballots: float


def measure(lab: Lab) -> Result:
    """Count the messages of both, then let proposers duel."""
    alone = {nodes: paxos_cost(nodes) for nodes in GROUPS}
    led = {nodes: raft_cost(nodes) for nodes in GROUPS}
    days = 40 if lab.quick else 400
    lab.note(
        f"duels: {days} days for each of {len(_TIMEOUT_LEGS)} time-outs, with and without luck"
    )
    fixed = {legs: duels(legs, days, lab.seed, random=False) for legs in _TIMEOUT_LEGS}
    lucky = {legs: duels(legs, days, lab.seed, random=True) for legs in _TIMEOUT_LEGS}
    return Result(
        arms=(*_cost_arms(alone[5], led[5]), *_duel_arms(fixed, lucky)),
        shape=(*_cost_claims(alone, led), *_duel_claims(fixed, lucky)),
        plot=Plot(Axis("values decided"), Axis("messages sent (group of five)")),
        notes=(
            "A leg: all messages under way arrive. A message of a node to itself is no message.",
            "Telling the others what was chosen is left out on both sides (news_of_commits).",
            "Raft with pre-vote: its election asks twice, and its leader commits an empty entry.",
            "The theory line is phase 1 once and phase 2 for each value: Paxos with a leader.",
            f"Duels: legs of {LEG_US} µs; the second proposer begins within the first two legs.",
        ),
    )


def paxos_cost(nodes: int) -> Cost:
    """One value: node 1 proposes, all accept, node 1 learns."""
    everyone = tuple(range(1, nodes + 1))
    acceptors = {number: Acceptor(number, (1,)) for number in everyone}
    learner = Learner(1, nodes)
    proposer, effects = begin(Proposer(1, everyone, "value"))
    under_way = [effect.message for effect in effects if isinstance(effect, Send)]
    messages = legs = 0
    while learner.chosen is None:
        legs += 1
        arriving, under_way = under_way, list[PaxosMessage]()
        for message in arriving:
            messages += message.sender != message.to
            match message:
                case Prepare() | Accept():
                    acceptors[message.to], effects = answer(acceptors[message.to], message)
                case Promise() | Refused():
                    proposer, effects = hear(proposer, message)
                case Accepted():
                    learner, effects = learn(learner, message), ()
            under_way += [effect.message for effect in effects if isinstance(effect, Send)]
    return Cost(messages, legs)


def raft_cost(nodes: int) -> RaftCost:
    """Node 1 is elected, then decides VALUES values one by one."""
    group = HandLed(nodes, Settings())
    leader = group.rafts[1]
    leader.campaign()
    election = group.until(lambda: leader.role is Role.LEADER and leader.committed == 1)
    news = group.settle()
    values: list[Cost] = []
    for number in range(1, VALUES + 1):
        leader.propose(b"value %d" % number)
        values.append(group.until(lambda: leader.committed > len(values) + 1))
        news += group.settle()
    return RaftCost(election, tuple(values), news)


def duels(timeout_legs: float, days: int, seed: int, *, random: bool) -> Duels:
    """Days of two proposers who begin again after `timeout_legs`, or after a random pause."""
    draws = Random(seed)
    ballots: list[int] = []
    decided = ends = 0
    for day in range(days):
        start_us = draws.randrange(1, 2 * LEG_US)
        ends += foreseen(timeout_legs, start_us)
        outcome = run(
            Day(
                seed=day,
                nodes=3,
                starts_us=(0, start_us),
                patience=Patience(round(timeout_legs * LEG_US), random=random),
                latency_us=(LEG_US, LEG_US),
                stormy_us=10**12,
                ballots_max=BALLOTS_MAX,
            )
        )
        decided += outcome.chosen is not None
        ballots.append(outcome.ballots)
    return Duels(days, decided, ends, median(ballots))


def foreseen(timeout_legs: float, start_us: int) -> bool:
    """Whether a duel with equal pauses T ends, if the second proposer begins `start_us` later.

    Its Accept arrives three legs after its start; the first one's next Prepare, one leg after T.
    If the Prepare comes first, it takes the ballot away, and so on for ever.
    """
    return round(timeout_legs * LEG_US) + LEG_US > start_us + 3 * LEG_US


def _cost_arms(alone: Cost, led: RaftCost) -> tuple[Arm, ...]:
    paxos = [(float(k), float(k * alone.messages)) for k in range(VALUES + 1)]
    raft = [(0.0, float(led.election.messages))]
    for number, cost in enumerate(led.values, start=1):
        raft.append((float(number), raft[-1][1] + cost.messages))
    half = alone.messages / 2
    theory = [(float(k), half * (k + 1)) for k in range(VALUES + 1)]
    return (
        Arm(
            "Paxos, each value by itself",
            "control",
            {"messages_a_value": alone.messages, "legs_a_value": alone.legs, "to_begin": 0},
            tuple(paxos),
        ),
        Arm(
            "Raft, one leader",
            "treatment",
            {
                "messages_a_value": led.values[0].messages,
                "legs_a_value": led.values[0].legs,
                "to_begin": led.election.messages,
                "legs_to_begin": led.election.legs,
                "news_of_commits": led.news,
            },
            tuple(raft),
        ),
        Arm(
            "Paxos with a leader",
            "theory",
            {"messages_a_value": half, "legs_a_value": 2, "to_begin": half},
            tuple(theory),
        ),
    )


def _duel_arms(fixed: dict[float, Duels], lucky: dict[float, Duels]) -> tuple[Arm, ...]:
    equal = [Arm(f"equal pauses of {t:g} legs", "control", _shown(of)) for t, of in fixed.items()]
    drawn = [Arm(f"random from {t:g} legs", "treatment", _shown(of)) for t, of in lucky.items()]
    return (*equal, *drawn)


def _shown(of: Duels) -> dict[str, Cell]:
    return {
        "days": of.days,
        "decided": of.decided,
        "foreseen": of.foreseen,
        "ballots_median": of.ballots,
    }


def _cost_claims(alone: dict[int, Cost], led: dict[int, RaftCost]) -> tuple[Claim, ...]:
    raft = {nodes: of.values for nodes, of in led.items()}
    begun = {nodes: of.election.messages for nodes, of in led.items()}
    crossing = {
        nodes: next(
            k
            for k in range(1, VALUES + 1)
            if begun[nodes] + sum(cost.messages for cost in raft[nodes][:k])
            < k * alone[nodes].messages
        )
        for nodes in GROUPS
    }
    return (
        Claim(
            "A value by itself costs Paxos four legs and 4 (n - 1) messages.",
            all(cost == Cost(4 * (nodes - 1), 4) for nodes, cost in alone.items()),
            ", ".join(f"n = {n}: {c.messages} in {c.legs} legs" for n, c in alone.items()),
        ),
        Claim(
            "A Raft leader needs half of both for every value: two legs and 2 (n - 1) messages.",
            all(set(costs) == {Cost(2 * (n - 1), 2)} for n, costs in raft.items()),
            ", ".join(f"n = {n}: {c[0].messages} in {c[0].legs} legs" for n, c in raft.items()),
        ),
        Claim(
            "It has to be elected first, which its fourth value has paid back.",
            all(k == 4 for k in crossing.values()),
            ", ".join(
                f"n = {n}: {begun[n]} messages to begin, cheaper from value {k} on"
                for n, k in crossing.items()
            ),
        ),
    )


def _duel_claims(fixed: dict[float, Duels], lucky: dict[float, Duels]) -> tuple[Claim, ...]:
    short = {legs: of for legs, of in fixed.items() if legs < BALLOT_LEGS}
    long = {legs: of for legs, of in fixed.items() if legs >= BALLOT_LEGS}
    shown = ", ".join(f"{legs:g} legs: {of.decided} of {of.days}" for legs, of in fixed.items())
    return (
        Claim(
            "Equal pauses that are too short for a ballot leave days that never end; those that "
            "are long enough, none.",
            all(of.decided < of.days for of in short.values())
            and all(of.decided == of.days for of in long.values()),
            shown,
        ),
        Claim(
            "Which days end can be foreseen: those on which Accept overtakes the next Prepare.",
            all(of.decided == of.foreseen for of in fixed.values()),
            ", ".join(f"{legs:g} legs: {of.foreseen}" for legs, of in fixed.items()),
        ),
        Claim(
            "With random, growing pauses every day ends, however short they begin.",
            all(of.decided == of.days for of in lucky.values()),
            ", ".join(
                f"{legs:g} legs: median of {of.ballots:g} ballots" for legs, of in lucky.items()
            ),
        ),
    )


EXPERIMENT = Experiment(
    slug="paxos-vs-raft",
    question="What does a decision cost Paxos and Raft, and when do duelling proposers end?",
    varied="the algorithm; group of 3, 5, 7; how soon a proposer begins again",
    fixed="a perfect network (every leg takes as long), nobody fails, one value at a time",
    run=measure,
    topics=("A21", "A19"),
)
