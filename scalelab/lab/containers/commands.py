"""What a person is told while the steps of a bed are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Steps:
    """Tells a person what is being done, for how long, and what has ended; several at a time."""

    def __init__(self, tell: Callable[[str], None], *, every_s: float = 30.0) -> None:
        self._tell = tell
        self._every_s = every_s
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}

    def run(self, what: str, work: Callable[[], T]) -> T:
        """Do it between two lines, with one more every half minute; remember how long it took."""
        begun_s = time.monotonic()
        ended = threading.Event()
        self._say(f"{what} …")
        watcher = threading.Thread(
            target=self._remind, args=(what, begun_s, ended), name="reminder", daemon=True
        )
        watcher.start()
        try:
            result = work()
        except BaseException:
            self._say(f"{what}: failed after {time.monotonic() - begun_s:.0f} s")
            raise
        finally:
            ended.set()
            watcher.join()
        took_s = time.monotonic() - begun_s
        self.seconds[what] = took_s
        self._say(f"{what}: {took_s:.1f} s")
        return result

    def _remind(self, what: str, begun_s: float, ended: threading.Event) -> None:
        while not ended.wait(self._every_s):
            self._say(f"{what} … {time.monotonic() - begun_s:.0f} s so far")

    def _say(self, line: str) -> None:
        with self._lock:
            self._tell(line)
