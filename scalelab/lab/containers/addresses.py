"""Which private addresses the bed's networks may use. Pure: what the host routes in, a pool out.

A container network that overlaps a route of the host would cut the host off from whatever stands
behind that route, so the pool is chosen among those that nobody here uses.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Network

from scalelab.errors import Conflict, CorruptData

_CANDIDATES = tuple(IPv4Network((f"10.{second}.0.0", 16)) for second in range(213, 245))
NETWORK_PREFIX = 24
"""Every container network gets a /24 of the pool: 256 networks of 254 addresses."""


def free_pools(taken: Iterable[IPv4Network]) -> list[IPv4Network]:
    """The candidates that overlap nothing in `taken`, in order.

    Raises Conflict if there is none.
    """
    used = list(taken)
    free = [one for one in _CANDIDATES if not any(one.overlaps(network) for network in used)]
    if not free:
        raise Conflict("every address pool for containers overlaps a route of this machine")
    return free


def routes(table: str) -> list[IPv4Network]:
    """The networks in the kernel's routing table (the text of /proc/net/route), default aside.

    Addresses stand there as hexadecimal numbers in the byte order of the machine.
    """
    found: list[IPv4Network] = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 8:
            raise CorruptData(f"not a line of a routing table: {line!r}")
        network = IPv4Network((_dotted(words[1]), _dotted(words[7])))
        if network.prefixlen > 0:
            found.append(network)
    return found


def _dotted(word: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))
