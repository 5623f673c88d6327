"""Pick by key: the same key goes to the same server, until that server has its fill.

For servers that remember (a cache in the process, an open session): the ring keeps a key at its
server, and the bound sends what is too much for it, such as one very popular key, to the next
servers in the key's own order. See scalelab/hashing/ring.py for the algorithm and its bound.
"""

from __future__ import annotations

from collections.abc import Sequence

from scalelab.balancing.picks import Candidate
from scalelab.errors import Unavailable
from scalelab.hashing.ring import DEFAULT_BALANCE, Ring


def ring_pick(
    backends: Sequence[Candidate], ring: Ring, key: str, *, balance: float = DEFAULT_BALANCE
) -> int | None:
    """The index of the key's server, or None if no server of the ring is available.

    With the new request none has more in flight than ceil(balance * its share of all in flight).
    Servers not on the ring are not picked; names must differ. Raises InvalidInput if balance < 1.
    """
    places = {backend.name: index for index, backend in enumerate(backends) if backend.available}
    loads = {name: backends[index].in_flight for name, index in places.items()}
    try:
        return places[ring.bounded_owner(key, loads, balance=balance)]
    except Unavailable:
        return None
