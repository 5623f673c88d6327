"""A question to n warehouses is answered by the last of them. How often do all answer in time?

Twenty warehouses with a replica each, in four processes. Each keeps a twentieth of the questions
until the caller hangs up; which ones is drawn by chance, and known, so that everything is counted.
The deadline is far above what an undisturbed gather needs on this machine now.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from month3_messaging.experiments.stock_process import ASKED, Settings, is_held
from month3_messaging.fan import (
    Gathered,
    HedgePolicy,
    Hedging,
    Levels,
    ScatterSettings,
    StockFan,
    Warehouse,
    Why,
    chance_all,
)
from month3_messaging.rpc import RestStock
from scalelab.clients.http import HttpClient
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.runtime import ServiceSpec

SIZES = (1, 5, 20)
QUICK = 0.95
"""The share of questions that a warehouse answers at once."""
AT_ONCE = 10
_HALF = max(SIZES) // 2
_LEAST_S, _LONG_S = 3.0, 60.0
_BURST, _SHARE = 20.0, 0.2


@dataclass(frozen=True, slots=True)
class Seen:
    """One size, `gathers` times. parts, answered: of all gathers. held: parts kept everywhere.

    free: gathers without a held part. wrong: complete ones that had one, and answers of held parts.
    p50_ms, max_ms: of a gather.
    """

    parts_each: int
    gathers: int
    complete: int
    free: int
    wrong: int
    answered: int
    held: int
    hedged: int
    p50_ms: float
    max_ms: float

    @property
    def parts(self) -> int:
        """Parts of all gathers."""
        return self.parts_each * self.gathers


@dataclass(frozen=True, slots=True)
class Bed:
    """The processes' settings by place ("first", "second") and half, and a client of each desk."""

    settings: dict[str, Settings]
    clients: dict[str, list[RestStock]]

    def fan(self, size: int, part_timeout_s: float, hedging: Hedging | None) -> StockFan:
        """A fan over the first `size` warehouses, or (if 20) all."""
        pairs = zip(self.clients["first"], self.clients["second"], strict=True)
        houses = {_desk(n): Warehouse(stock, replica) for n, (stock, replica) in enumerate(pairs)}
        return StockFan(
            {name: houses[name] for name in sorted(houses)[:size]},
            SystemClock(),
            settings=ScatterSettings(part_timeout_s),
            hedging=hedging,
        )

    def held(self, place: str, number: int, question: str) -> bool:
        """Whether that warehouse keeps that question at that place."""
        return is_held(self.settings[f"{place}-{number // _HALF}"], _desk(number), question)


def run(lab: Lab) -> Result:
    """Every size without and with hedges, then with one process killed."""
    settings: dict[str, Settings] = {}
    for place in ("first", "second"):
        for half in (0, 1):
            name = f"{place}-{half}"
            free = {_desk(n): {"pen": 5} for n in range(half * _HALF, (half + 1) * _HALF)}
            port = lab.runtime.port(name, 0)
            settings[name] = Settings(port, free, place, 1 - QUICK, lab.seed)
    lab.runtime.services(
        *(ServiceSpec(name, one.argv(), one.port) for name, one in settings.items())
    )
    return asyncio.run(_run(lab, settings))


async def _run(lab: Lab, settings: dict[str, Settings]) -> Result:
    gathers = 20 if lab.quick else 200
    async with _bed(settings) as bed:
        calm_s = await _calm_s(bed)
        deadline_s = max(_LEAST_S, 4 * calm_s)
        lab.note(f"deadline {deadline_s:.1f} s; {gathers} gathers of each size")
        plain = [await _gather(bed, size, gathers, deadline_s, None) for size in SIZES]
        lab.note("the same with a second request after the 90th percentile")
        hedged = [
            await _gather(bed, size, gathers, deadline_s, Hedging(_policy(size, calm_s)))
            for size in SIZES
        ]
        lab.note("one process killed")
        lab.runtime.kill("first-1")
        question = ["pen"]
        alone = await bed.fan(max(SIZES), _LONG_S, None).levels(question, timeout_s=_LONG_S)
        again = Hedging(HedgePolicy(burst=float(max(SIZES)), first_delay_s=_LONG_S))
        rescued = await bed.fan(max(SIZES), _LONG_S, again).levels(question, timeout_s=_LONG_S)
    return Result(
        arms=_arms(plain, hedged),
        shape=(*_claims(plain, hedged), *_kill_claims(alone.gathered, rescued.gathered)),
        plot=Plot(Axis("parts of a gather"), Axis("share that is there by the deadline")),
        notes=(
            f"The deadline was {deadline_s:.1f} s, four times what the slowest of {AT_ONCE} "
            f"undisturbed gathers at once needed, and at least {_LEAST_S:.0f} s.",
            "Times are printed, not claimed.",
        ),
    )


def _policy(size: int, calm_s: float) -> HedgePolicy:
    """The 90th percentile: one answer of twenty is held, so the 95th would be a held one's wait.

    The first gathers at once are one burst; its quickest answers alone say too little.
    """
    return HedgePolicy(0.9, _SHARE, _BURST, least=AT_ONCE * size, first_delay_s=calm_s)


def _desk(number: int) -> str:
    return f"w{number:02}"


@asynccontextmanager
async def _bed(settings: dict[str, Settings]) -> AsyncGenerator[Bed, None]:
    async with AsyncExitStack() as stack:
        clients: dict[str, list[RestStock]] = {"first": [], "second": []}
        for one in settings.values():
            for desk in one.free:
                url = f"http://127.0.0.1:{one.port}/{desk}"
                http = HttpClient(url, connect_timeout_s=_LONG_S)
                clients[one.place].append(RestStock(await stack.enter_async_context(http)))
        yield Bed(settings, clients)


async def _calm_s(bed: Bed) -> float:
    """Seconds of the slowest of so many gathers at once that nobody holds; connections are warm."""
    fan = bed.fan(max(SIZES), _LONG_S, None)
    spent_s = 0.0
    for _ in range(3):
        begun_s = time.monotonic()
        await asyncio.gather(*(fan.levels(["pen"], timeout_s=_LONG_S) for _ in range(AT_ONCE)))
        spent_s = time.monotonic() - begun_s
    return spent_s


async def _gather(
    bed: Bed, size: int, gathers: int, deadline_s: float, hedging: Hedging | None
) -> Seen:
    """So many gathers, AT_ONCE at a time, and what was to be expected of each."""
    fan = bed.fan(size, deadline_s, hedging)
    questions = [f"{ASKED}{size}-{number}" for number in range(gathers)]
    seen: list[tuple[Gathered[Levels], float]] = []

    async def one(question: str) -> tuple[Gathered[Levels], float]:
        begun_s = time.monotonic()
        availability = await fan.levels(["pen", question], timeout_s=deadline_s)
        return availability.gathered, 1000 * (time.monotonic() - begun_s)

    for first in range(0, gathers, AT_ONCE):
        seen += await asyncio.gather(*map(one, questions[first : first + AT_ONCE]))
    places = ("first",) if hedging is None else ("first", "second")
    stuck = [
        {_desk(n) for n in range(size) if all(bed.held(place, n, question) for place in places)}
        for question in questions
    ]
    times = [ms for _, ms in seen]
    return Seen(
        size,
        gathers,
        complete=sum(gathered.complete for gathered, _ in seen),
        free=stuck.count(set()),
        wrong=sum(
            len(kept & gathered.answers.keys())
            for kept, (gathered, _) in zip(stuck, seen, strict=True)
        ),
        answered=sum(len(gathered.answers) for gathered, _ in seen),
        held=sum(map(len, stuck)),
        hedged=sum(gathered.hedged for gathered, _ in seen),
        p50_ms=statistics.median(times),
        max_ms=max(times),
    )


def _arms(plain: Sequence[Seen], hedged: Sequence[Seen]) -> tuple[Arm, ...]:
    return (
        _arm("all or nothing", "control", plain, [one.complete / one.gathers for one in plain]),
        _arm("partial results", "treatment", plain, [one.answered / one.parts for one in plain]),
        _arm(
            "hedged, complete", "treatment", hedged, [one.complete / one.gathers for one in hedged]
        ),
        _theory("p^n", 1),
        _theory("(1 - (1 - p)^2)^n", 2),
    )


def _arm(name: str, role: str, seen: Sequence[Seen], shares: Sequence[float]) -> Arm:
    last = seen[-1]
    return Arm(
        name,
        "control" if role == "control" else "treatment",
        {
            **{f"share_{one.parts_each}": round(s, 3) for one, s in zip(seen, shares, strict=True)},
            "second_requests": sum(one.hedged for one in seen),
            f"p50_ms_{last.parts_each}": round(last.p50_ms),
            f"max_ms_{last.parts_each}": round(last.max_ms),
        },
        tuple((float(one.parts_each), s) for one, s in zip(seen, shares, strict=True)),
    )


def _theory(name: str, places: int) -> Arm:
    points = [(float(n), chance_all(QUICK, n, places=places)) for n in SIZES]
    return Arm(
        f"theory, {name}",
        "theory",
        {f"share_{n:.0f}": round(y, 3) for n, y in points},
        tuple(points),
    )


def _within(seen: Seen) -> bool:
    """Whether the complete ones lie within four standard deviations of p^n."""
    chance = chance_all(QUICK, seen.parts_each)
    sigma = math.sqrt(seen.gathers * chance * (1 - chance))
    return abs(seen.complete - seen.gathers * chance) <= 4 * sigma


def _claims(plain: Sequence[Seen], hedged: Sequence[Seen]) -> tuple[Claim, ...]:
    requests = sum(one.parts for one in hedged)
    second = sum(one.hedged for one in hedged)
    allowed = len(hedged) * _BURST + _SHARE * requests
    return (
        Claim(
            "the slowest part decides: no gather with a held part is complete",
            all(one.wrong == 0 and one.complete <= one.free for one in plain),
            f"complete {[one.complete for one in plain]}, "
            f"without a held part {[one.free for one in plain]}",
        ),
        Claim(
            "so the complete ones are p^n of all, within four standard deviations at every size",
            all(map(_within, plain)),
            f"{[round(one.complete / one.gathers, 2) for one in plain]} of all, p^n is "
            f"{[round(chance_all(QUICK, n), 2) for n in SIZES]}",
        ),
        Claim(
            "partial results hand over 19 of 20 parts that were not held, or more, at every size",
            all(0.95 * (one.parts - one.held) <= one.answered for one in plain),
            f"{[one.answered for one in plain]} of {[one.parts for one in plain]} parts, "
            f"{[one.held for one in plain]} held",
        ),
        Claim(
            "second requests complete at least half as many again of the largest gathers",
            hedged[-1].complete >= 1.5 * plain[-1].complete > 0,
            f"{hedged[-1].complete} instead of {plain[-1].complete} of {plain[-1].gathers}",
        ),
        Claim(
            "and the second requests stay within their budget",
            0 < second <= allowed,
            f"{second} for {requests} first ones, {allowed:.0f} were allowed",
        ),
    )


def _kill_claims(alone: Gathered[Levels], rescued: Gathered[Levels]) -> tuple[Claim, ...]:
    lost = {_desk(number) for number in range(_HALF, 2 * _HALF)}
    failed = {name for name, one in alone.missing.items() if one.why is Why.FAILED}
    return (
        Claim(
            "with a process killed its warehouses are named as failed, and all others answer",
            failed == lost and len(alone.missing) == len(alone.answers) == _HALF,
            f"{len(alone.answers)} answered, {len(failed)} failed",
        ),
        Claim(
            "and where a replica may be asked, all answer",
            rescued.complete and rescued.rescued == _HALF,
            f"{len(rescued.answers)} answered, {rescued.rescued} of them by the replica",
        ),
    )


EXPERIMENT = Experiment(
    slug="fan-out-fan-in",
    question="How often does everybody answer in time, if each one does 19 times of 20?",
    varied="the number of warehouses: 1, 5, 20; whether a second place may be asked",
    fixed="the share of questions that a warehouse holds, the deadline, the processes",
    run=run,
    topics=("C15",),
)
