"""`python -m month6_capstone PROCESS`: one process of the shop, `monolith`, or a preparing step."""

from __future__ import annotations

import sys

from month6_capstone.processes import names_for, run_processes
from scalelab.errors import InvalidInput
from scalelab.web.process import calm_collector, run_loop


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
        run_loop(STEPS[target]())
        return 0
    try:
        names = names_for(target)
    except InvalidInput as error:
        _complain(error.message)
        return 2
    calm_collector()
    run_loop(run_processes(names))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
