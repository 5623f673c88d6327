"""Pick by key without a ring: rendezvous for named servers, jump for numbered ones.

A key whose server is away goes to the next server of its own order, so the keys of one that died
are spread over all others, and come back to it when it does. There is no bound on load: one
popular key has one server (see ring_pick.py for the bound).
"""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from scalelab.balancing.picks import Candidate, round_robin
from scalelab.hashing.jump import jump
from scalelab.hashing.rendezvous import Rendezvous

_DRAWS = 8
"""Half of the servers away: one key in 2**8 draws none that is there and takes the next in line."""


def rendezvous_pick(backends: Sequence[Candidate], ranking: Rendezvous, key: str) -> int | None:
    """The index of the first available server in the key's ranking; None if there is none.

    Servers that are no members are not picked; names must differ. Cost: O(members), a hash each.
    """
    places = {backend.name: index for index, backend in enumerate(backends) if backend.available}
    if not places:
        return None
    for name in ranking.owners(key, len(ranking.members)):
        if name in places:
            return places[name]
    return None


def jump_pick(backends: Sequence[Candidate], key: str) -> int | None:
    """The index that the key's hash jumps to; if that server is away, another draw of the key's.

    A server is known by its place: add and remove at the end only. Cost: O(log n).
    """
    if not backends:
        return None
    data = key.encode()
    index = 0
    for draw in range(_DRAWS):
        index = jump(xxhash.xxh3_64_intdigest(data, draw), len(backends))
        if backends[index].available:
            return index
    return round_robin(backends, index + 1)
