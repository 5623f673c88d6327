"""Two threads of one interpreter, reported as one line of JSON. Standard library alone.

Run by path, `python two_threads_process.py ROUNDS`, so that any build of Python can be asked,
a free-threaded one that has none of our packages among them.
"""

from __future__ import annotations

import json
import sys
import sysconfig
import threading
from collections.abc import Callable


def main(rounds: int) -> dict[str, object]:
    """gil: whether one lock guards all bytecode. lost: of 2 * rounds additions. both_zero: of
    `rounds` trials of store, then load the other's. seen: whether a waiting loop saw a flag."""
    sys.setswitchinterval(1e-6)
    return {
        "python": sys.version.split()[0],
        "free_threaded_build": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "gil": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
        "rounds": rounds,
        "lost": _lost(rounds),
        "both_zero": _both_zero(rounds),
        "seen": _seen(),
    }


class _Shared:
    def __init__(self) -> None:
        self.number = 0
        self.x = 0
        self.y = 0
        self.flag = False


def _plus_one(number: int) -> int:
    return number + 1


def _lost(rounds: int) -> int:
    shared = _Shared()

    def add() -> None:
        for _ in range(rounds):
            shared.number = _plus_one(shared.number)  # the call is where a switch may come

    _together(add, add)
    return 2 * rounds - shared.number


def _both_zero(rounds: int) -> int:
    cells = [_Shared() for _ in range(rounds)]
    left, right = [0] * rounds, [0] * rounds

    def one() -> None:
        for number, cell in enumerate(cells):
            cell.x = 1
            left[number] = cell.y

    def other() -> None:
        for number, cell in enumerate(cells):
            cell.y = 1
            right[number] = cell.x

    _together(one, other)
    return sum(a == b == 0 for a, b in zip(left, right, strict=True))


def _seen() -> bool:
    shared = _Shared()
    started = threading.Event()

    def wait() -> None:
        started.set()
        while not shared.flag:
            pass

    reader = threading.Thread(target=wait, daemon=True)
    reader.start()
    started.wait()
    shared.flag = True
    reader.join(60)
    return not reader.is_alive()


def _together(one: Callable[[], None], other: Callable[[], None]) -> None:
    start = threading.Barrier(2)

    def run(work: Callable[[], None]) -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=run, args=(work,)) for work in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))) + "\n")
