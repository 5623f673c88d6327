"""How often does one cold key reach the source when a crowd asks for it at once?

Three caches in front of the same source, in two operating system processes on one Redis: look, ask
and store; single flight in each process; single flight over all processes by a lease. All callers
have missed before the source answers the first of them, so the counts are exact.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

from month1_caching_gateway.experiments import stampede_process
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.servers import Redis

PROCESSES = 2
QUICK = (20, 200)
FULL = (20, 100, 500, 1000)

_ROLES: dict[str, Role] = {"naive": "control", "single-flight": "treatment", "lease": "treatment"}
_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 60.0


def run(lab: Lab) -> Result:
    """Count the source's calls for each arm and size of crowd."""
    server = Redis("cache-stampede")
    lab.runtime.start(server)
    url = server.url_of(0)
    sizes = QUICK if lab.quick else FULL
    asked: dict[str, dict[int, int]] = {}
    for arm in stampede_process.ARMS:
        asked[arm] = {}
        for callers in sizes:
            asked[arm][callers] = _stampede(arm, url, callers)
            lab.note(f"{arm}: {callers} callers, the source was asked {asked[arm][callers]} times")
    arms = tuple(_arm(name, counts) for name, counts in asked.items())
    plot = Plot(Axis("callers at once, one cold key", log=True), Axis("calls of the source", True))
    notes = (
        f"The callers are spread evenly over {PROCESSES} processes.",
        "The source answers when the last caller has missed: the worst case of a stampede.",
    )
    return Result(arms, _shape(asked), plot, notes)


def _stampede(arm: str, url: str, callers: int) -> int:
    """Calls of the source by all processes together, for one crowd on a cold key."""
    argv = [
        sys.executable,
        "-m",
        stampede_process.__name__,
        arm,
        str(callers // PROCESSES),
        str(PROCESSES),
        f"stampede-{secrets.token_hex(4)}",
    ]
    environment = {**os.environ, "STAMPEDE_REDIS_URL": url}
    crowd = [
        subprocess.Popen(argv, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=_TIMEOUT_S)[0] for process in crowd]
    finally:
        for process in crowd:
            process.kill()
            process.wait()
    if any(process.returncode != 0 for process in crowd):
        raise RuntimeError(f"a process of the crowd failed in the arm {arm}; see its output above")
    return sum(int(json.loads(output)["asked"]) for output in outputs)


def _arm(name: str, counts: dict[int, int]) -> Arm:
    figures = {f"asked_by_{callers}": count for callers, count in counts.items()}
    points = tuple((float(callers), float(count)) for callers, count in counts.items())
    return Arm(name, _ROLES[name], figures, points)


def _shape(asked: dict[str, dict[int, int]]) -> tuple[Claim, ...]:
    expected = {
        "naive": ("Without coordination every caller asks the source", _every_caller),
        "single-flight": ("Single flight asks once a process, however many call", _each_process),
        "lease": ("A lease asks once over all processes", _once),
    }
    return tuple(
        Claim(
            f"{sentence}.",
            all(count == law(callers) for callers, count in asked[arm].items()),
            ", ".join(f"{callers} callers: {count}" for callers, count in asked[arm].items()),
        )
        for arm, (sentence, law) in expected.items()
    )


def _every_caller(callers: int) -> int:
    return callers


def _each_process(_callers: int) -> int:
    return PROCESSES


def _once(_callers: int) -> int:
    return 1


EXPERIMENT = Experiment(
    slug="cache-stampede",
    question="How often does a crowd on one cold key reach the source?",
    varied="what stands between the callers and the source; how many callers",
    fixed=f"one Redis, {PROCESSES} processes, one key, all callers miss before the first answer",
    run=run,
    topics=("A2",),
    needs=("redis",),
)
