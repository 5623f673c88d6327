"""Which Pythons of this machine can be asked: the one that runs, and a free-threaded one if any."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("two_threads_process.py")
_FREE_THREADED = ("python3.14t", "python3.13t")
NOT_HERE = (
    "No free-threaded Python is on this machine's PATH (python3.14t, python3.13t): what it would "
    "lose is not known here. Nothing lost under the global lock is no promise about other builds."
)


@dataclass(frozen=True, slots=True)
class TwoThreads:
    """What two threads of one build did; see two_threads_process.py."""

    python: str
    free_threaded_build: bool
    gil: bool
    rounds: int
    lost: int
    both_zero: int
    seen: bool

    @property
    def name(self) -> str:
        """For a table."""
        lock = "with the global lock" if self.gil else "free-threaded"
        return f"Python {self.python}, {lock}"


def builds() -> list[str]:
    """Interpreters to ask, ours first."""
    others = [path for name in _FREE_THREADED if (path := shutil.which(name))]
    return [sys.executable, *others[:1]]


def ask(python: str, rounds: int) -> TwoThreads:
    """Run the two threads in a process of that build, alone with the standard library."""
    told = subprocess.run(
        [python, "-I", "-S", str(_SCRIPT), str(rounds)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    return TwoThreads(**json.loads(told))
