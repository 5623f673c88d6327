"""`python -m month6_capstone PROCESS`: one process of the shop, `monolith`, or a preparing step."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine

from month6_capstone.processes import names_for, run_processes
from scalelab.errors import InvalidInput


def _run(main: Coroutine[object, object, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not built for this platform: the standard loop is slower, not different
        asyncio.run(main)
    else:
        uvloop.run(main)


def _calm_collector() -> None:
    """Collect cycles a fourteenth as often as Python would.

    Requests make few cycles but many objects: by default their number alone starts a collection
    every few requests, each of which walks what the last ones left alive. Bounded, because the
    young generation cannot grow beyond the threshold.
    """
    gc.set_threshold(10_000, 20, 20)


def _complain(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    if len(arguments) != 1:
        _complain("usage: python -m month6_capstone PROCESS | monolith | prepare | secrets")
        return 2
    target = arguments[0]
    if target.startswith("prepare") or target == "secrets":
        from month6_capstone.prepare import STEPS

        if target not in STEPS:
            _complain(f"no step is called {target}")
            return 2
        _run(STEPS[target]())
        return 0
    try:
        names = names_for(target)
    except InvalidInput as error:
        _complain(error.message)
        return 2
    _calm_collector()
    _run(run_processes(names))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
