"""The short way of a request that was a hit of the response cache before, byte for byte.

Nothing is left to decide about such a request but what may have changed since: the rules in force,
a drain, the answer's freshness (known_hits.py). So it needs no exchange. It has an account as every
request has: an id, a log line, counts, a span if the coin says so. Routes with an allowance or with
CORS take the usual way, because there each request is judged by itself.
"""

from __future__ import annotations

from month1_caching_gateway.gateway.account import Account
from month1_caching_gateway.gateway.client_side import ClientSide
from month1_caching_gateway.gateway.heads import Framing, RequestHead
from month1_caching_gateway.gateway.interception import Interceptor
from month1_caching_gateway.gateway.plane import Plane

_NO_BODY = Framing.NONE


def remembered_answer(
    plane: Plane, interceptor: Interceptor, client: ClientSide, head: RequestHead
) -> bytes | None:
    """The whole answer, its request accounted for; None: nothing happened, take the usual way."""
    place = head.line.place
    if place is None or head.framing is not _NO_BODY or not head.keep_alive or plane.draining:
        return None
    table, route = place.table, place.route
    if table is not plane.in_force.table or table.hosts or not plane.serves_host(head):
        return None
    if route.rate is not None or route.cors is not None or route.idempotency_key_required:
        return None
    own = interceptor.recall(head, route, plane.clock.monotonic_s())
    if own is None:
        return None
    account = Account(plane, client.caller, client.peer, head)
    account.route, account.target = route, place.target
    answer, account.bytes_out = account.own_answer(own, (), keep_alive=True)
    account.close(own.head.status, "")
    return answer
