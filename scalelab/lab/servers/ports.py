"""Port choice: fixed defaults for people, free ones for tests and for a second stack.

Between the choice of a port and the server that binds it lie seconds, in which another stack may
choose the same one. So a stack reserves what it chose by a lock on a file of that number, which
the kernel drops with the process, however it ends. Programs that know nothing of these locks can
still take a port; picking from below the kernel's range for outgoing connections (32768 upward on
Linux) makes that rare, since only other servers can.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from scalelab.lab.servers.errors import ServerFailed

_LOWEST, _HIGHEST = 20_000, 32_000
_ATTEMPTS = 200


def is_free(port: int) -> bool:
    """Whether a server could bind 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lock_folder() -> Path:
    """Where this user's stacks keep their reservations; one for all clones."""
    return Path(tempfile.gettempdir()) / f"scalelab-ports-{os.getuid()}"


class Ports:
    """One stack's ports by name. The same name gives the same port; no port is given twice.

    free: whether a port could be bound now. locks: folder of the reservations, shared by all stacks
    that must not collide. Reservations last until `release` or the end of the process.
    """

    def __init__(
        self,
        *,
        private: bool,
        free: Callable[[int], bool] = is_free,
        locks: Path | None = None,
    ) -> None:
        self._private = private
        self._free = free
        self._locks = locks or lock_folder()
        self._given: dict[str, int] = {}
        self._held: list[int] = []
        self._lock = threading.Lock()
        # Not the module's generator: a test that seeds it would make all stacks choose alike.
        self._random = random.SystemRandom()

    def port(self, name: str, default: int) -> int:
        """`default` if it is free and the stack is not private, else a free port.

        Raises ServerFailed if no free port turns up.
        """
        with self._lock:
            if name not in self._given:
                self._given[name] = self._choose(default)
            return self._given[name]

    def release(self) -> None:
        """Let other stacks have the ports. Call it when the servers are gone. Repeatable."""
        with self._lock:
            for descriptor in self._held:
                os.close(descriptor)
            self._held.clear()

    def _choose(self, default: int) -> int:
        if not self._private and self._take(default):
            return default
        for _ in range(_ATTEMPTS):
            port = self._random.randrange(_LOWEST, _HIGHEST)
            if self._take(port):
                return port
        raise ServerFailed(
            f"No free port between {_LOWEST} and {_HIGHEST} on 127.0.0.1 in {_ATTEMPTS} tries. "
            f"Try: stop other stacks with ./lab down."
        )

    def _take(self, port: int) -> bool:
        """Reserve `port` if nobody has it."""
        if port in self._given.values() or not self._free(port):
            return False
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._locks / str(port), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held.append(descriptor)
        return True
