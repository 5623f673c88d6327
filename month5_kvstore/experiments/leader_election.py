"""How wide must the randomised time-out be, and what does a node do that was away for a while?

Split votes: the leader of five dies, four followers wait for a time-out drawn from a window of so
many ticks, and a leg of the network takes one tick. Counted: attempts until one leads. Then one
node of five is cut off for some time-outs and comes back, with pre-vote and without. Counted: terms
risen, and leaders deposed. Virtual time, in ticks; the core is the one that the nodes run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import comb, sqrt
from random import Random

from month5_kvstore.experiments.hand_led import HandLed
from month5_kvstore.raft import Raft, Role, Settings
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

NODES = 5
WIDTHS = (1, 2, 4, 8, 16, 32)
AWAY = (2, 5, 10, 20)
"""Shortest time-outs that a node is cut off for."""

_TICKS = 40
_ATTEMPTS_MAX = 30
_PLAIN = Settings(election_ticks=_TICKS, heartbeat_ticks=4, pre_vote=False, check_quorum=False)


class Narrow(Random):
    """Draws time-outs from the first `width` ticks only, whatever window it is asked for."""

    width = _TICKS

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """Below both `start` and the width; a window is never given with two ends here."""
        return super().randrange(min(start, self.width))


@dataclass(frozen=True, slots=True)
class Elections:
    """Of many deaths. split: deaths whose first attempt elected nobody. unelected: deaths after
    which nobody led for _ATTEMPTS_MAX time-outs. terms: risen in all, one would be enough."""

    deaths: int
    split: int
    unelected: int
    terms: int


@dataclass(frozen=True, slots=True)
class Return:
    """Of one node. terms: how far the group's term rose. deposed: whether the leader fell."""

    terms: int
    deposed: bool


def measure(lab: Lab) -> Result:
    """Kill leaders; send a node away."""
    deaths = 150 if lab.quick else 1_000
    lab.note(f"{deaths} dead leaders for each of {len(WIDTHS)} windows")
    elections = {width: elect(width, deaths, lab.seed) for width in WIDTHS}
    lab.note("one node is cut off and comes back")
    returns = {
        pre_vote: {away: come_back(away, lab.seed, pre_vote=pre_vote) for away in AWAY}
        for pre_vote in (False, True)
    }
    return Result(
        arms=(*_election_arms(elections), *_return_arms(returns)),
        shape=(*_election_claims(elections), *_return_claims(returns)),
        plot=Plot(
            Axis("width of the randomised time-out (ticks; a leg is one)", log=True),
            Axis("first attempts that elect nobody (share)"),
        ),
        notes=(
            "Theory: votes split when three or four of four followers draw the lowest tick; of "
            "two, the one that is heard first gets the others' votes.",
            f"The shortest time-out is {_TICKS} ticks, {_ATTEMPTS_MAX} of them end a trial.",
            "Pre-vote and the quorum check are off where votes are split: their help is not asked.",
        ),
    )


def elect(width: int, deaths: int, seed: int) -> Elections:
    """Kill so many leaders, each of a group of its own."""
    split = unelected = terms = 0
    for death in range(deaths):
        group = _led_group(width, f"{seed} {death}")
        group.cut = {1}
        before = group.rafts[2].term
        for _ in range(_ATTEMPTS_MAX * _TICKS):
            group.tick()
            if _leader_of_others(group) is not None:
                break
        leader = _leader_of_others(group)
        risen = max(group.rafts[node].term for node in range(2, NODES + 1)) - before
        split += leader is None or risen > 1
        unelected += leader is None
        terms += risen
    return Elections(deaths, split, unelected, terms)


def _led_group(width: int, seed: str) -> HandLed:
    def draws(node: int) -> Random:
        random = Narrow(f"{seed} {node}")
        random.width = width
        return random

    group = HandLed(NODES, _PLAIN, random=draws)
    group.rafts[1].campaign()
    group.settle()
    return group


def _leader_of_others(group: HandLed) -> Raft | None:
    leading = [r for node, r in group.rafts.items() if node != 1 and r.role is Role.LEADER]
    return leading[0] if leading else None


def split_share(width: int) -> float:
    """Chance that three or four of four draws from `width` ticks share the lowest one.

    Whoever drew a later tick has a request by then. Two that stand together do not split the vote:
    the two others hear both in one order and give the first one its majority of three.
    """
    others = NODES - 1
    return sum(
        comb(others, together) * (width - 1 - tick) ** (others - together) / width**others
        for tick in range(width)
        for together in (3, 4)
    )


def come_back(away: int, seed: int, *, pre_vote: bool) -> Return:
    """Node 5 is cut off for `away` shortest time-outs, then heard again for two."""
    settings = Settings(
        election_ticks=_TICKS, heartbeat_ticks=4, pre_vote=pre_vote, check_quorum=False
    )
    group = HandLed(NODES, settings, random=lambda node: Random(f"{seed} {away} {node}"))
    group.rafts[1].campaign()
    group.settle()
    leader, before = group.rafts[1], group.rafts[1].term
    group.cut = {NODES}
    for _ in range(away * _TICKS):
        group.tick()
    group.cut = set()
    deposed = False
    for _ in range(4 * _TICKS):
        group.tick()
        deposed = deposed or leader.role is not Role.LEADER
    return Return(max(raft.term for raft in group.rafts.values()) - before, deposed)


def _election_arms(elections: dict[int, Elections]) -> tuple[Arm, ...]:
    measured = Arm(
        "first attempts that elect nobody",
        "treatment",
        {f"split_{width}": round(of.split / of.deaths, 3) for width, of in elections.items()},
        tuple((float(width), of.split / of.deaths) for width, of in elections.items()),
    )
    theory = Arm(
        "three or four draw the lowest tick",
        "theory",
        {f"split_{width}": round(split_share(width), 3) for width in elections},
        tuple((float(width), split_share(width)) for width in elections),
    )
    return measured, theory


def _return_arms(returns: dict[bool, dict[int, Return]]) -> tuple[Arm, ...]:
    return tuple(
        Arm(
            "back with pre-vote" if pre_vote else "back without pre-vote",
            "treatment" if pre_vote else "control",
            {
                **{f"terms_after_{away}": of.terms for away, of in all_of.items()},
                "leaders_deposed": sum(of.deposed for of in all_of.values()),
            },
        )
        for pre_vote, all_of in returns.items()
    )


def _election_claims(elections: dict[int, Elections]) -> tuple[Claim, ...]:
    shares = {width: of.split / of.deaths for width, of in elections.items()}
    none = elections[1]
    wide = [shares[width] for width in WIDTHS[1:]]
    return (
        Claim(
            "Without chance nobody is ever elected: all stand at once, each votes for itself.",
            none.unelected == none.deaths,
            f"{none.unelected} of {none.deaths} deaths, {none.terms // none.deaths} terms each",
        ),
        Claim(
            "With a window of two ticks or more somebody leads in the end, always.",
            all(elections[width].unelected == 0 for width in WIDTHS[1:]),
            f"{sum(of.deaths for of in elections.values()) - none.deaths} deaths",
        ),
        Claim(
            "The wider the window, the fewer split votes: 32 ticks leave a fifth of 2, or less.",
            all(later <= former + 0.05 for former, later in pairwise(wide))
            and shares[32] <= 0.2 * shares[2],
            ", ".join(f"{width}: {share:.2f}" for width, share in shares.items()),
        ),
        Claim(
            "Split votes are as frequent as chance foresees, within four standard deviations.",
            all(
                abs(share - split_share(width)) <= 4 * _deviation(width, elections[width].deaths)
                for width, share in shares.items()
            ),
            ", ".join(f"{width}: {split_share(width):.3f}" for width in shares),
        ),
    )


def _deviation(width: int, deaths: int) -> float:
    """Of the share in so many deaths; one death at least, for wide windows expect few."""
    share = split_share(width)
    return max(sqrt(share * (1 - share) / deaths), 1 / deaths)


def _return_claims(returns: dict[bool, dict[int, Return]]) -> tuple[Claim, ...]:
    without, with_it = returns[False], returns[True]
    bands = {away: (away * _TICKS // (2 * _TICKS), away + 1) for away in AWAY}
    return (
        Claim(
            "Without pre-vote a node that was away raises the term once a time-out, and deposes "
            "the leader when it is back.",
            all(
                of.deposed and bands[away][0] <= of.terms <= bands[away][1] + 2
                for away, of in without.items()
            ),
            ", ".join(f"away {away}: {of.terms} terms" for away, of in without.items()),
        ),
        Claim(
            "With pre-vote it raises nothing and disturbs nobody.",
            all(of == Return(0, deposed=False) for of in with_it.values()),
            ", ".join(f"away {away}: {of.terms} terms" for away, of in with_it.items()),
        ),
    )


EXPERIMENT = Experiment(
    slug="leader-election",
    question="How wide must the random part of an election time-out be, and what is pre-vote for?",
    varied="the width of the random part; how long a node was cut off, with pre-vote and without",
    fixed="five nodes, one tick a leg, shortest time-out of 40 ticks, perfect disks",
    run=measure,
    topics=("A19", "M5.2"),
)
