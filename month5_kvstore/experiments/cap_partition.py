"""One partition, two stores that sell seats: one refuses on the small side, one sells twice.

Nodes 1 and 2 are parted from node 3, and every side has a desk. The first store is the month's own,
three real processes of it; the second keeps the last write that it heard of. Half of the seats are
asked for at the large side first, half at the small one, then the other way round; before the
partition, during it, and when it has healed. Links are cut, not processes: everybody lives.

On the small side of the first store one node is also asked for eventual reads, which it answers
with how long it has heard no leader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count

from month5_kvstore.experiments import lww_process
from month5_kvstore.experiments.judging import judge
from month5_kvstore.experiments.parted import NODES, Links, parted_nodes, until
from month5_kvstore.experiments.seat_desks import Desk, KvStore, LwwStore, Sale
from month5_kvstore.simulation import Call
from scalelab.clients.http import HttpClient
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.runtime import Runtime, ServiceSpec

SMALL = 3
PHASES = ("connected", "parted", "healed")
ONE_LOG, LAST_WRITE = "one log", "last write wins"

_PATIENCE_S = 30.0
_REFUSED_AFTER_S = 2.0
_LWW_PORT = 8531


@dataclass(frozen=True, slots=True)
class Phase:
    """Calls of both desks. large, small: seats sold there. refused: calls of the small side that
    nobody answered. twice: seats that both sold."""

    large: int
    small: int
    refused: int
    twice: int


@dataclass(frozen=True, slots=True)
class Peek:
    """An eventual read on the small side of a seat that the large one had sold. silence_ms: since
    it heard a leader, as it says. behind_ms: since the sale."""

    stale: bool
    silence_ms: int
    behind_ms: float


@dataclass(frozen=True, slots=True)
class Story:
    """One store. seats: in each phase. lost: acknowledged sales whose buyer has no seat in the end.
    torn: seats whose calls no order explains. refused_looks: linearizable reads of the small side
    while it was parted that nobody answered. peeks: eventual ones."""

    seats: int
    phases: dict[str, Phase]
    lost: int
    torn: int
    refused_looks: int = 0
    peeks: tuple[Peek, ...] = ()


@dataclass(frozen=True, slots=True)
class Bed:
    """A store with a desk on either side. settled: whether all replicas hold the same. ready: waits
    until the small side knows that it is alone. peek: an eventual read there: value, silence."""

    links: Links
    large: Desk
    small: Desk
    calls: list[Call]
    settled: Callable[[], Awaitable[bool]]
    ready: Callable[[], Awaitable[None]]
    peek: Callable[[str], Awaitable[tuple[int, int]]] | None = None


def measure(lab: Lab) -> Result:
    """Sell seats at both stores."""
    seats = 24 if lab.quick else 240
    with Runtime(lab.folder / "stack", private=True, is_disposable=True) as runtime:
        stories = asyncio.run(compare(runtime, seats, lab.seed, lab.note))
    return judged(stories)


async def compare(
    runtime: Runtime, seats: int, seed: int, note: Callable[[str], None]
) -> dict[str, Story]:
    """The story of each store. seats: in each phase, even."""
    stories: dict[str, Story] = {}
    for name, bed_of in ((ONE_LOG, _one_log), (LAST_WRITE, _last_write)):
        async with bed_of(runtime, seed) as bed:
            stories[name] = await tell(bed, seats)
        note(f"{name}: {stories[name].phases['parted']}")
    return stories


async def tell(bed: Bed, seats: int) -> Story:
    """Sell the seats of all phases, then see who has them."""
    names = {phase: [f"{phase}-{number}" for number in range(seats)] for phase in PHASES}
    await bed.large.open_all([seat for phase in PHASES for seat in names[phase]])
    await until(bed.settled, "all replicas to have the seats")
    phases: dict[str, Phase] = {}
    sales: list[Sale] = []
    peeks: tuple[Peek, ...] = ()
    refused_looks = 0
    for phase in PHASES:
        if phase == "parted":
            await bed.links.cut({SMALL})
        large, small = await _sell(bed, names[phase], meeting=phase != "parted")
        phases[phase] = _summed(large, small)
        sales += [*large, *small]
        if phase == "parted":
            await bed.ready()
            looks = await bed.small.look_all(names[phase])
            refused_looks = sum(found is None for found in looks.values())
            peeks = await _peek(bed, large)
            await bed.links.heal()
            await until(bed.settled, "all replicas to hold the same again")
    every = [seat for phase in PHASES for seat in names[phase]]
    holders = await bed.small.look_all(every)
    lost = sum(sale.sold is True and holders[sale.seat] != sale.buyer for sale in sales)
    torn = sum(
        judge([call for call in bed.calls if call.key == seat]) is not None for seat in every
    )
    return Story(seats, phases, lost, torn, refused_looks, peeks)


async def _sell(bed: Bed, seats: Sequence[str], *, meeting: bool) -> tuple[list[Sale], list[Sale]]:
    """Each seat at one desk, then at the other; what the desks were told."""
    half = len(seats) // 2
    first, second = seats[:half], seats[half:]
    large, small = await asyncio.gather(bed.large.sell_all(first), bed.small.sell_all(second))
    if meeting:
        await until(bed.settled, "all replicas to know of the first sales")
    more, others = await asyncio.gather(bed.large.sell_all(second), bed.small.sell_all(first))
    if meeting:
        await until(bed.settled, "all replicas to know of all sales")
    return [*large, *more], [*small, *others]


def _summed(large: Sequence[Sale], small: Sequence[Sale]) -> Phase:
    here = {sale.seat for sale in large if sale.sold}
    there = {sale.seat for sale in small if sale.sold}
    refused = sum(sale.sold is None for sale in small)
    return Phase(len(here), len(there), refused, len(here & there))


async def _peek(bed: Bed, sold: Sequence[Sale]) -> tuple[Peek, ...]:
    """Read on the small side what the large one sold."""
    if bed.peek is None:
        return ()
    peeks: list[Peek] = []
    for sale in sold:
        asked_at_s = time.monotonic()
        value, silence_ms = await bed.peek(sale.seat)
        peeks.append(Peek(value != sale.buyer, silence_ms, 1000 * (asked_at_s - sale.at_s)))
    return tuple(peeks)


@asynccontextmanager
async def _one_log(runtime: Runtime, seed: int) -> AsyncGenerator[Bed]:
    """Three nodes of the month's store."""
    buyers, calls = count(1), list[Call]()
    async with (
        parted_nodes(runtime) as nodes,
        nodes.client({1, 2}, seed) as large,
        nodes.client({SMALL}, seed) as small,
    ):

        async def ready() -> None:
            await until(lambda: nodes.leads_nothing(SMALL), "node 3 to know that it is alone")

        async def peek(seat: str) -> tuple[int, int]:
            params = {"consistency": "eventual"}
            answer = await nodes.http[SMALL].get(f"/v1/kv/{seat}", params=params)
            return int(answer.body), int(answer.headers["kv-silence-ms"])

        yield Bed(
            nodes.links,
            Desk(KvStore(large, _PATIENCE_S), lambda: next(buyers), calls),
            Desk(KvStore(small, _REFUSED_AFTER_S), lambda: next(buyers), calls),
            calls,
            nodes.is_settled,
            ready,
            peek,
        )


@asynccontextmanager
async def _last_write(runtime: Runtime, seed: int) -> AsyncGenerator[Bed]:
    """Three replicas that keep the last write they heard of."""
    ports = {node: runtime.port(f"lww-{node}", _LWW_PORT + node) for node in NODES}
    async with AsyncExitStack() as held:
        links = await held.enter_async_context(Links(runtime, "lww", ports))
        specs = [
            ServiceSpec(
                f"lww-{node}",
                lww_process.Settings(node, port, tuple(links.peers[node].values())).argv(),
                port=port,
            )
            for node, port in ports.items()
        ]
        await asyncio.to_thread(runtime.services, *specs)
        replicas = {
            node: await held.enter_async_context(
                HttpClient(f"http://127.0.0.1:{port}", timeout_s=_PATIENCE_S)
            )
            for node, port in ports.items()
        }
        buyers, calls = count(1), list[Call]()

        async def settled() -> bool:
            kept = [(await one.get("/v1/all")).body for one in replicas.values()]
            return kept[0] == kept[1] == kept[2]

        async def ready() -> None:
            """Nobody waits for anybody here."""

        large = Desk(LwwStore(replicas[1]), lambda: next(buyers), calls)
        small = Desk(LwwStore(replicas[SMALL]), lambda: next(buyers), calls)
        yield Bed(links, large, small, calls, settled, ready)


def judged(stories: dict[str, Story]) -> Result:
    """The arms, and what is claimed of them."""
    log, last = stories[ONE_LOG], stories[LAST_WRITE]
    silences = [peek.silence_ms for peek in log.peeks]
    return Result(
        arms=(
            Arm(ONE_LOG, "control", _figures(log), _points(log)),
            Arm(LAST_WRITE, "treatment", _figures(last), _points(last)),
            Arm(
                "eventual reads of one log",
                "treatment",
                {
                    "answered_on_the_small_side": len(log.peeks),
                    "stale": sum(peek.stale for peek in log.peeks),
                    "told_silence_ms_min": min(silences),
                    "told_silence_ms_max": max(silences),
                },
            ),
            Arm("a seat is sold once", "theory", {}, tuple((float(x), 1.0) for x in (1, 2, 3))),
        ),
        shape=_claims(log, last),
        plot=Plot(
            Axis("1: connected, 2: parted, 3: healed"), Axis("acknowledged sales (per seat)")
        ),
        notes=(
            "Large side: nodes 1 and 2; small side: node 3. Links between them are cut.",
            f"A desk of the small side gives a call up after {_REFUSED_AFTER_S:g} s.",
            "Eventual reads are asked once node 3 has stepped down; until its quorum check, two "
            "time-outs at the most, a leader that is alone reports no silence.",
        ),
    )


def _figures(story: Story) -> dict[str, int]:
    parted = story.phases["parted"]
    return {
        "seats": story.seats,
        "sold_connected": story.phases["connected"].large + story.phases["connected"].small,
        "sold_parted_large": parted.large,
        "sold_parted_small": parted.small,
        "refused_small": parted.refused,
        "sold_twice": parted.twice,
        "sales_lost": story.lost,
        "histories_of_no_order": story.torn,
    }


def _points(story: Story) -> tuple[tuple[float, float], ...]:
    return tuple(
        (float(number), (of.large + of.small) / story.seats)
        for number, of in enumerate((story.phases[phase] for phase in PHASES), start=1)
    )


def _claims(log: Story, last: Story) -> tuple[Claim, ...]:
    whole = [story.phases[phase] for story in (log, last) for phase in ("connected", "healed")]
    parted, doubled = log.phases["parted"], last.phases["parted"]
    return (
        Claim(
            "Connected or healed, each store sells each seat once, and refuses nobody.",
            all(p.large + p.small == log.seats and p.refused == p.twice == 0 for p in whole),
            ", ".join(f"{p.large} + {p.small}" for p in whole),
        ),
        Claim(
            "Parted, the one log sells every seat on the large side, and refuses every call, "
            "reads too, on the small one.",
            (parted.large, parted.small) == (log.seats, 0)
            and parted.refused == log.refused_looks == log.seats,
            f"{parted.large} and {parted.small} sold, {parted.refused} sales and "
            f"{log.refused_looks} reads refused",
        ),
        Claim(
            "It loses no sale that it acknowledged, and one copy explains every answer.",
            log.lost == log.torn == 0,
            f"{log.lost} lost, {log.torn} histories of no order",
        ),
        Claim(
            "Parted, last write wins answers everybody, and sells every seat twice.",
            doubled == Phase(last.seats, last.seats, 0, last.seats),
            f"{doubled.large} and {doubled.small} sold, {doubled.twice} seats twice",
        ),
        Claim(
            "When it has healed, exactly one of two acknowledged sales of each seat is gone.",
            last.lost == last.torn == doubled.twice,
            f"{last.lost} sales lost, {last.torn} histories of no order",
        ),
        Claim(
            "Eventual reads answer on the small side, all of them stale, and the silence that "
            "comes with each is longer than the sale that it missed is ago.",
            len(log.peeks) == log.seats
            and all(peek.stale and peek.silence_ms + 1 > peek.behind_ms for peek in log.peeks),
            f"{sum(peek.stale for peek in log.peeks)} of {len(log.peeks)} stale, silences of "
            f"{min(peek.silence_ms for peek in log.peeks)} ms and more",
        ),
    )


EXPERIMENT = Experiment(
    slug="cap-partition",
    question="Parted from the others: which store refuses, which one sells a seat twice?",
    varied="the store: one log for all, or the last write that a replica heard of; the side asked",
    fixed="three processes each, the same cut links, the same sales",
    run=measure,
    topics=("A9", "P0.1"),
)
