"""What does a sick service get from its callers: retries, a breaker's probes, or the peace it asks
for?

Ten callers ask at once, wave after wave, a quarter of a second apart. The service (a real process)
works, is sick for six seconds, and works again. It is sick in two ways: it answers 503 and nothing
else, or 429 with the seconds for which it wants to be left alone. The same crowd comes with three
clients. Network and service are real; the clients' clock is the experiment's, and goes a quarter of
a second a wave, so the counts do not depend on the machine.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

from month1_caching_gateway.client import Client, ClientSettings
from scalelab.clients.http import Answer, HttpClient
from scalelab.clock import ManualClock
from scalelab.errors import ScalelabError
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.runtime import ServiceSpec
from scalelab.resilience import (
    BreakerChanged,
    BreakerPolicy,
    BudgetPolicy,
    GuardEvent,
    Phase,
    RetryPolicy,
)

CALLERS = 10
WAVE_S = 0.25
WELL, SICK, AFTER = 4, 24, 12
"""Waves before, in and after the sickness."""
EVERYONE = CALLERS * (WELL + SICK + AFTER)
ATTEMPTS = 3
MINUTES = 300.0

_RETRY = RetryPolicy(attempts=ATTEMPTS, budget=BudgetPolicy(ratio=ATTEMPTS, reserve=1000.0))
_BREAKER = BreakerPolicy(min_calls=10, window_s=5.0, open_s=1.0, probes=1)


def _settings(breaker: BreakerPolicy | None, obey_at_most_s: float) -> ClientSettings:
    """Deadlines that no machine meets by being slow."""
    return ClientSettings(
        deadline_s=MINUTES,
        try_s=30.0,
        connect_s=30.0,
        obey_at_most_s=obey_at_most_s,
        breaker=breaker,
        retry=_RETRY,
    )


ARMS: dict[str, tuple[Role, ClientSettings, bool]] = {
    "retry": ("control", _settings(None, 0.0), False),
    "retry and breaker": ("treatment", _settings(_BREAKER, 0.0), False),
    "breaker that obeys, fallback": ("treatment", _settings(_BREAKER, 60.0), True),
}
"""Name → role, settings, and whether the callers have a fallback."""
SICKNESSES = ("503", "429")
_SUBSTITUTE = Answer(200, {}, b"{}")


@dataclass(slots=True)
class Seen:
    """One crowd with one client and one sickness. calls: that reached the service, a wave each."""

    calls: list[int] = field(default_factory=list[int])
    answered: int = 0
    fell_back: int = 0
    failed: int = 0
    opened: int = 0
    half_opened: int = 0

    @property
    def while_sick(self) -> list[int]:
        """Calls by wave of the sickness."""
        return self.calls[WELL : WELL + SICK]

    def on_event(self, event: GuardEvent) -> None:
        """The client's hook."""
        if isinstance(event, BreakerChanged):
            self.opened += event.after is Phase.OPEN
            self.half_opened += event.after is Phase.HALF_OPEN


def run(lab: Lab) -> Result:
    """Send every client's crowd through both sicknesses; judge the counts."""
    port = lab.runtime.port("sick-service", 0)
    lab.runtime.service(
        ServiceSpec(
            "sick-service",
            ("python", "-m", "month1_caching_gateway.experiments.sick_service", str(port)),
            port=port,
        )
    )
    seen: dict[str, dict[str, Seen]] = {}
    for name, (_, settings, has_fallback) in ARMS.items():
        seen[name] = {}
        for sickness in SICKNESSES:
            crowd = _crowd(f"http://127.0.0.1:{port}", settings, sickness, fallback=has_fallback)
            seen[name][sickness] = asyncio.run(crowd)
            lab.note(f"{name}, {sickness}: {sum(seen[name][sickness].while_sick)} calls while sick")
    lab.runtime.stop("sick-service")
    return Result(
        arms=tuple(_arm(name, of_one) for name, of_one in seen.items()),
        shape=_shape(seen),
        plot=Plot(Axis("time (s)"), Axis("calls that reached the service so far (429)")),
        notes=(
            f"{CALLERS} callers a wave, {SICK} waves of sickness: {CALLERS * SICK} callers in all.",
            "The clients' clock goes a quarter of a second a wave; they sleep by that clock only.",
            "The control has no retry budget: with the usual one (20 %) it could not do this.",
        ),
    )


async def _crowd(url: str, settings: ClientSettings, sickness: str, *, fallback: bool) -> Seen:
    clock, seen = ManualClock(), Seen()

    async def no_time_passes(_seconds: float) -> None:
        await asyncio.sleep(0)

    client = Client("sick", url, settings, hooks=[seen.on_event], clock=clock, sleep=no_time_passes)
    async with client, HttpClient(url, timeout_s=30.0) as control:
        before = await _count(control)
        for wave in range(WELL + SICK + AFTER):
            await control.put("/mode", _mode(wave, sickness))
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(_one(client, seen, fallback=fallback))
            total = await _count(control)
            seen.calls.append(total - before)
            before = total
            clock.advance(WAVE_S)
    return seen


def _mode(wave: int, sickness: str) -> dict[str, Any]:
    if not WELL <= wave < WELL + SICK:
        return {"status": 200}
    if sickness == "503":
        return {"status": 503}
    return {"status": 429, "retry_after": math.ceil((WELL + SICK - wave) * WAVE_S)}


async def _one(client: Client, seen: Seen, *, fallback: bool) -> None:
    async def substitute(_error: ScalelabError) -> Answer:
        return _SUBSTITUTE

    try:
        answer = await client.request("GET", "/work", fallback=substitute if fallback else None)
    except ScalelabError:
        seen.failed += 1
    else:
        seen.fell_back += answer is _SUBSTITUTE
        seen.answered += answer is not _SUBSTITUTE


async def _count(control: HttpClient) -> int:
    return sum((await control.get("/seen")).json().values())


def _arm(name: str, of_one: dict[str, Seen]) -> Arm:
    figures: dict[str, int] = {}
    for sickness, seen in of_one.items():
        figures |= {
            f"calls_while_{sickness}": sum(seen.while_sick),
            f"fallbacks_{sickness}": seen.fell_back,
            f"errors_{sickness}": seen.failed,
            f"probes_{sickness}": seen.half_opened,
        }
    total = 0
    points: list[tuple[float, float]] = []
    for wave, calls in enumerate(of_one["429"].calls):
        total += calls
        points.append((wave * WAVE_S, float(total)))
    return Arm(name, ARMS[name][0], figures, tuple(points))


def _shape(seen: dict[str, dict[str, Seen]]) -> tuple[Claim, ...]:
    bare, breaker, obeys = (seen[name] for name in ARMS)
    sick_callers = CALLERS * SICK
    quiet = {sickness: _once_open(one.while_sick) for sickness, one in breaker.items()}
    obeyed, probes = obeys["429"].while_sick, obeys["429"].half_opened
    last = [one.calls[-1] for of_one in seen.values() for one in of_one.values()]
    return (
        Claim(
            f"Bare retries send {ATTEMPTS} calls for each caller to a service that cannot answer.",
            all(sum(one.while_sick) == ATTEMPTS * sick_callers for one in bare.values()),
            _sums(bare),
        ),
        Claim(
            "A breaker sends it less than a sixth of that.",
            all(sum(one.while_sick) * 6 < ATTEMPTS * sick_callers for one in breaker.values()),
            _sums(breaker),
        ),
        Claim(
            "Once it is open, no wave brings more than one probe.",
            all(max(waves) == 1 for waves in quiet.values()),
            ", ".join(f"{s}: {sum(waves)} in {len(waves)} waves" for s, waves in quiet.items()),
        ),
        Claim(
            "A breaker that obeys sends nothing more before the time it was told, then one probe.",
            1 <= obeyed[0] <= CALLERS and sum(obeyed[1:]) == 0 and probes == 1,
            f"{obeyed[0]} calls in the first wave of the sickness, {sum(obeyed[1:])} in the others,"
            f" {probes} probe",
        ),
        Claim(
            "With a fallback nobody meets an error; with bare retries every caller of the sickness"
            " does.",
            all(one.failed == 0 for one in obeys.values())
            and all(one.answered + one.fell_back == EVERYONE for one in obeys.values())
            and all(one.failed == sick_callers for one in bare.values()),
            f"errors: {[one.failed for one in bare.values()]} against "
            f"{[one.failed for one in obeys.values()]}",
        ),
        Claim(
            "All three go on by themselves when the service is well again.",
            all(calls == CALLERS for calls in last),
            f"calls in the last wave: {last}",
        ),
    )


def _once_open(waves: list[int]) -> list[int]:
    """The waves after the one in which the breaker opened."""
    return waves[next(index for index, calls in enumerate(waves) if calls <= 1) :]


def _sums(of_one: dict[str, Seen]) -> str:
    return ", ".join(f"{s}: {sum(one.while_sick)} calls while sick" for s, one in of_one.items())


EXPERIMENT = Experiment(
    slug="circuit-breaker",
    question="What does a sick service get: retries, probes, or the peace it asks for?",
    varied="the client: bare retries, a breaker, one that honours Retry-After, with a fallback",
    fixed=f"{CALLERS} callers a wave, the waves, the two sicknesses, the service",
    run=run,
    topics=("C14", "P6.4", "P8.4"),
)
