"""Same server: when a polled position may be believed of the connection that is about to read.

A position is polled over one connection and used for another. Between them the server may have
been restarted, and a replica that recovers begins before the place it had reached. Asking again
on the reading connection is certain and costs a round trip a read. This is as certain, and free:

    The reading connection stood before the poll was sent, the poll came from the same postmaster,
    and the reading connection still stands. A crash ends every connection of its server, so both
    asked the same unbroken server, and in one life of a server replay only goes forward.

Each connection is asked once, when it is first seen, and again whenever the rule does not hold. A
pooler that lends connections out breaks the rule's premise; behind one, ask in the transaction
that reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection

from month2_databases.replication.consistency_token import ConsistencyToken, covers
from month2_databases.replication.replay_positions import Standing, ask
from scalelab.clock import Clock


@dataclass(frozen=True, slots=True)
class Life:
    """A connection's server. since_s: monotonic, the connection stood by then. started_s: of its
    postmaster."""

    since_s: float
    started_s: float


def speaks_for(polled: Standing, life: Life) -> bool:
    """Whether what was polled is true of the server behind a connection of that life."""
    return polled.started_s == life.started_s and polled.asked_at_s > life.since_s


class SameServer:
    """Remembers the life of each connection it has seen; forgets it with the connection."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lives: WeakKeyDictionary[AsyncConnection, Life] = WeakKeyDictionary()

    def believes(
        self,
        conn: AsyncConnection,
        cluster: str,
        floor: ConsistencyToken,
        polled: Standing | None,
    ) -> bool | None:
        """Whether the server behind `conn` has replayed `floor`; None if it has to be asked."""
        life = self._lives.get(conn)
        if life is None or polled is None or not speaks_for(polled, life):
            return None
        return covers(polled.position, cluster, floor)

    async def confirms(self, conn: AsyncConnection, cluster: str, floor: ConsistencyToken) -> bool:
        """The same by asking it."""
        asked_at_s = self._clock.monotonic_s()
        standing = await ask(conn, asked_at_s)
        if standing is None:
            self._lives.pop(conn, None)
            return False
        self._lives[conn] = Life(asked_at_s, standing.started_s)
        return covers(standing.position, cluster, floor)
