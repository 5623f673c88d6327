"""Work for fork and join that can be counted: primes by trial division, in a module of its own.

A process that works out a part imports this file, and so nothing else.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """The numbers low..high, without high."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Counted:
    """primes found; divisions tried, which is what the part cost; who did it."""

    primes: int
    divisions: int
    process: int


def count_primes(part: Part) -> Counted:
    """Primes among the part's numbers. Cost: `divisions`, growing with the numbers' size."""
    primes = divisions = 0
    for number in range(max(2, part.low), part.high):
        divisor = 2
        prime = True
        while divisor * divisor <= number:
            divisions += 1
            if number % divisor == 0:
                prime = False
                break
            divisor += 1
        primes += prime
    return Counted(primes, divisions, os.getpid())


@dataclass(frozen=True, slots=True)
class Errand:
    """Leave a mark in a folder; the first one fails."""

    number: int
    folder: Path


def run_errand(errand: Errand) -> int:
    """20 ms of waiting. Raises ArithmeticError for number 0."""
    (errand.folder / f"begun-{errand.number}").touch()
    if errand.number == 0:
        raise ArithmeticError("the first part fails")
    time.sleep(0.02)
    return errand.number


def end_process(_part: int) -> None:
    """What the kernel does to a process that takes too much memory."""
    os.kill(os.getpid(), 9)
