"""Port choice: fixed defaults for people, free ones for tests and for a second stack.

A port that was free a moment ago may be taken when the server binds it; no scheme short of passing
the socket closes that gap. Picking from below the kernel's range for outgoing connections (32768
upward on Linux) makes it rare, since only other servers can take such a port.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable

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


class Ports:
    """One stack's ports by name. The same name gives the same port; no port is given twice."""

    def __init__(self, *, private: bool, free: Callable[[int], bool] = is_free) -> None:
        self._private = private
        self._free = free
        self._given: dict[str, int] = {}
        self._lock = threading.Lock()

    def port(self, name: str, default: int) -> int:
        """`default` if it is free and the stack is not private, else a free port.

        Raises ServerFailed if no free port turns up.
        """
        with self._lock:
            if name not in self._given:
                self._given[name] = self._choose(default)
            return self._given[name]

    def _choose(self, default: int) -> int:
        taken = set(self._given.values())
        if not self._private and default not in taken and self._free(default):
            return default
        for _ in range(_ATTEMPTS):
            port = random.randrange(_LOWEST, _HIGHEST)
            if port not in taken and self._free(port):
                return port
        raise ServerFailed(
            f"No free port between {_LOWEST} and {_HIGHEST} on 127.0.0.1 in {_ATTEMPTS} tries. "
            f"Try: stop other stacks with ./lab down."
        )
