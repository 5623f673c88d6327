"""A thread writes, another reads. When does the reader see it, and in which order?

Python under its global lock cannot show the trouble: whoever computes holds the lock, and handing
it over orders everything before. A JVM can, with the same few lines: its compiler reads a plain
field once and never again, and the processor lets a load overtake a store. Time is the reader's
own processor time, so that a busy machine changes no answer.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import month3_messaging.concurrency
from month3_messaging.experiments.python_builds import NOT_HERE, TwoThreads, ask, builds
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import ProviderOptions, Providers
from scalelab.lab.servers.java import java
from scalelab.lab.servers.java_classes import compile_java
from scalelab.lab.servers.short_commands import run_short

SOURCE = Path(month3_messaging.concurrency.__file__).with_name("Visibility.java")
# -Xbatch: the loop is compiled before it goes on, however busy the compiler's own threads are.
_FLAGS = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xbatch")
_INTERPRETED = "-Xint"
_CPU_MS = 300
_RUN_S = 200


@dataclass(frozen=True, slots=True)
class Jvm:
    """A runtime and the folder of our compiled class."""

    java: Path
    version: str
    classes: Path

    @classmethod
    def prepared(cls, providers: Providers, classes: Path) -> Jvm:
        """Compile the class. Raises ServerMissing or ServerFailed."""
        program = java(providers)
        compile_java(SOURCE, providers, classes)
        return cls(program.path, program.version, classes)

    def sees(self, kind: str, *flags: str) -> bool:
        """Whether a reader that waits for a flag of this kind (`plain`, `volatile`) saw it set
        within 300 ms of its own processor time."""
        return bool(self._run("flag", kind, _CPU_MS, flags)["seen"])

    def both_zero(self, kind: str, rounds: int) -> tuple[int, int]:
        """Trials of store-then-load, and in how many of them both loads went first."""
        told = self._run("reorder", kind, rounds, ())
        return int(told["rounds"]), int(told["both_zero"])

    def _run(self, what: str, kind: str, size: int, flags: tuple[str, ...]) -> dict[str, Any]:
        command = [str(self.java), *_FLAGS, *flags, "-cp", str(self.classes)]
        command += ["Visibility", what, kind, str(size)]
        return json.loads(run_short(command, what, timeout_s=_RUN_S))


def run(lab: Lab) -> Result:
    """Ask the JVM in three ways, then each Python of this machine."""
    lab.note("compiling Visibility.java")
    jvm = Jvm.prepared(Providers(ProviderOptions.from_environment(os.environ)), lab.folder)
    lab.note("a flag, read until it is seen")
    plain, interpreted = jvm.sees("plain"), jvm.sees("plain", _INTERPRETED)
    ordered = jvm.sees("volatile")
    lab.note("store, then load the other's")
    rounds = 20_000 if lab.quick else 400_000
    trials, plain_zero = jvm.both_zero("plain", rounds)
    _, volatile_zero = jvm.both_zero("volatile", rounds)
    lab.note("the same in Python")
    pythons = [ask(python, 100_000) for python in builds()]
    return Result(
        arms=(
            _jvm_arm("JVM, plain fields", plain, trials, plain_zero, control=True),
            _jvm_arm("JVM, volatile fields", ordered, trials, volatile_zero, control=False),
            Arm("JVM, plain, interpreted", "limit", {"flag_seen": interpreted}, ()),
            *(_python_arm(one) for one in pythons),
        ),
        shape=_claims((plain, interpreted, ordered), trials, (plain_zero, volatile_zero), pythons),
        plot=Plot(Axis(""), Axis("both loads before both stores (% of trials)"), "bars"),
        notes=(
            f"Java {jvm.version}; the class was compiled here by Eclipse's compiler.",
            *([NOT_HERE] if all(one.gil for one in pythons) else []),
        ),
    )


def _jvm_arm(name: str, seen: bool, trials: int, both_zero: int, *, control: bool) -> Arm:
    return Arm(
        name,
        "control" if control else "treatment",
        {"flag_seen": seen, "trials": trials, "both_zero": both_zero},
        ((0, 100 * both_zero / trials),),
    )


def _python_arm(one: TwoThreads) -> Arm:
    figures = {"flag_seen": one.seen, "trials": one.rounds, "both_zero": one.both_zero}
    return Arm(one.name, "limit", figures, ((0, 100 * one.both_zero / one.rounds),))


def _claims(
    seen: tuple[bool, bool, bool],
    trials: int,
    both_zero: tuple[int, int],
    pythons: list[TwoThreads],
) -> tuple[Claim, ...]:
    plain, interpreted, ordered = seen
    cores = os.cpu_count() or 1
    locked = [one for one in pythons if one.gil]
    return (
        Claim(
            "a compiled loop over a plain field never sees the write; over a volatile one it does",
            not plain and ordered,
            f"plain {plain}, volatile {ordered}",
        ),
        Claim(
            "it is the compiler: the same plain loop, interpreted, sees it",
            interpreted,
            f"interpreted {interpreted}",
        ),
        Claim(
            "with plain fields loads overtake stores (needs two cores); with volatile ones never",
            (both_zero[0] > 0 or cores < 2) and both_zero[1] == 0,
            f"{both_zero[0]} and {both_zero[1]} of {trials} on {cores} cores",
        ),
        Claim(
            "under Python's global lock neither happens",
            all(one.seen and one.both_zero == 0 for one in locked),
            f"{[one.both_zero for one in locked]} of {[one.rounds for one in locked]}",
        ),
    )


EXPERIMENT = Experiment(
    slug="memory-visibility",
    question="When does one thread see what another has written, and in which order?",
    varied="plain or volatile fields; compiled or interpreted; a JVM or Python",
    fixed="the program: one writer and one reader of a flag, two threads that store, then load",
    run=run,
    topics=("P3.3",),
    needs=("java",),
)
